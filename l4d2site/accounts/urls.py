"""The addresses of accounts. allauth's are listed one by one; its other pages are left out.

There is no sign-up: its address leads nowhere.
"""

from allauth.account.views import ReauthenticateView
from allauth.mfa.base import views as second_factor
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as passkeys
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from l4d2site.accounts import (
    audit_pages,
    pages,
    people_pages,
    person_pages,
    second_factor_pages,
)
from l4d2site.accounts.second_factor_pages import recording_shown_codes
from l4d2site.accounts.second_factors import needing_keys, telling_unreadable
from l4d2site.accounts.second_step import SecondStepPage
from servers.access import sign_in_required

second_factor_urls = [
    path("", second_factor_pages.Overview.as_view(), name="mfa_index"),
    path("authenticate/", SecondStepPage.as_view(), name="mfa_authenticate"),
    path("reauthenticate/", second_factor.reauthenticate, name="mfa_reauthenticate"),
    path("app/add/", needing_keys(totp.activate_totp), name="mfa_activate_totp"),
    path("app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path(
        "codes/",
        recording_shown_codes(telling_unreadable(recovery_codes.view_recovery_codes)),
        name="mfa_view_recovery_codes",
    ),
    path(
        "codes/new/",
        needing_keys(recovery_codes.generate_recovery_codes),
        name="mfa_generate_recovery_codes",
    ),
    path(
        "codes/download/",
        recording_shown_codes(telling_unreadable(recovery_codes.download_recovery_codes)),
        name="mfa_download_recovery_codes",
    ),
    path("passkeys/", passkeys.list_webauthn, name="mfa_list_webauthn"),
    path(
        "passkeys/add/",
        needing_keys(second_factor_pages.PasskeyAddition.as_view()),
        name="mfa_add_webauthn",
    ),
    path(
        "passkeys/sign-in/",
        second_factor_pages.PasskeySignIn.as_view(),
        name="mfa_login_webauthn",
    ),
    path(
        "passkeys/reauthenticate/",
        second_factor_pages.PasskeyReauthentication.as_view(),
        name="mfa_reauthenticate_webauthn",
    ),
    path(
        "passkeys/<int:pk>/edit/",
        sign_in_required(passkeys.edit_webauthn),
        name="mfa_edit_webauthn",
    ),
    path(
        "passkeys/<int:pk>/remove/",
        sign_in_required(passkeys.remove_webauthn),
        name="mfa_remove_webauthn",
    ),
]

urlpatterns = [
    path("login/", pages.SignIn.as_view(), name="account_login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("password/", pages.PasswordChange.as_view(), name="password_change"),
    path(
        "reauthenticate/",
        ReauthenticateView.as_view(template_name="accounts/reauthenticate.html"),
        name="account_reauthenticate",
    ),
    path("sessions/", pages.sessions, name="sessions"),
    path("sessions/revoke-others/", pages.session_revoke_others, name="session_revoke_others"),
    path("sessions/<uuid:pk>/revoke/", pages.session_revoke, name="session_revoke"),
    path("second-factor/", include(second_factor_urls)),
    path("people/", people_pages.people, name="people"),
    path("people/<int:pk>/", person_pages.person_page, name="person"),
    path("people/<int:pk>/role/", person_pages.person_role, name="person_role"),
    path("people/<int:pk>/limits/", person_pages.person_quotas, name="person_quotas"),
    path("people/<int:pk>/switch/", person_pages.person_switch, name="person_switch"),
    path("people/<int:pk>/reset-link/", people_pages.reset_link, name="reset_link"),
    path("audit/", audit_pages.audit, name="audit"),
    path("invitations/", people_pages.invitation_make, name="invitation_make"),
    path("invitations/<uuid:pk>/revoke/", people_pages.invitation_revoke, name="invitation_revoke"),
    path("invitation/<str:token>/", people_pages.invitation, name="invitation"),
    path("reset/", people_pages.reset_request, name="reset_request"),
    path("reset/<str:uidb64>/<str:token>/", people_pages.PasswordReset.as_view(), name="reset"),
]
