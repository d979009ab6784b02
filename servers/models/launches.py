"""What a server is started with, as plain values from its rows, and how that becomes the host layer's spec."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from django.utils.translation import gettext

from hostops.specs import (
    ArgumentsError,
    InstanceSpec,
    join_arguments,
    parse_arguments,
    require_arguments,
)
from servers.models.blueprints import MIB, require_filled_overlays
from servers.models.text_cache import cache_of_texts
from servers.models.validation import find_argument_faults, find_config_faults, shorten
from servers.secrets import SecretError, ServerSecret, decrypt, sets_secret, take_secrets


@dataclass(slots=True)
class LaunchTexts:
    """What people wrote for a server's start, on its blueprint and on itself, and its passwords, encrypted."""

    name: str
    blueprint_arguments: str = field(repr=False)
    arguments: str = field(repr=False)
    blueprint_config: str = field(repr=False)
    config: str = field(repr=False)
    rcon_password_token: str = field(repr=False)
    join_password_token: str = field(repr=False)

    @property
    def configs(self) -> tuple[str, str]:
        """The blueprint's config and the server's own."""
        return self.blueprint_config, self.config

    def split_arguments(self) -> tuple[tuple[str, str], Mapping[ServerSecret, str]]:
        """Return the blueprint's launch arguments and its own without passwords, and `argued_passwords`.

        A password among launch arguments, from before there were fields or keys, does not become argv.
        """
        return split_arguments(self.blueprint_arguments, self.arguments, self.configs)

    def argued_passwords(self) -> Mapping[ServerSecret, str]:
        """Return the passwords among launch arguments that apply, unless a field has one."""
        return self.split_arguments()[1]

    def find_faults(self) -> tuple[str, ...]:
        """Return why a server cannot be started with them, a sentence for each reason; usually none.

        Rows stored before a rule was made may break it.
        """
        arguments, _ = self.split_arguments()
        return find_spec_faults(arguments, self.configs)

    def readable_passwords(self) -> list[str]:
        """Return the fields' passwords that can be decrypted, for code that masks them in output."""
        tokens = {
            ServerSecret.RCON_PASSWORD: self.rcon_password_token,
            ServerSecret.JOIN_PASSWORD: self.join_password_token,
        }
        readable = []
        for secret, token in tokens.items():
            try:
                readable.append(read_token(self.name, secret, token))
            except SecretError:
                continue  # If nobody here can read it, nobody here has given it to the game.
        return [plain for plain in readable if plain]

    def add_passwords(self, spec: InstanceSpec, argued: Mapping[ServerSecret, str]) -> InstanceSpec:
        """Return `spec`, which has none, with the passwords of the fields, or else those `argued`.

        Raises `SecretError`.
        """
        rcon = read_token(self.name, ServerSecret.RCON_PASSWORD, self.rcon_password_token)
        join = read_token(self.name, ServerSecret.JOIN_PASSWORD, self.join_password_token)
        rcon = rcon or argued.get(ServerSecret.RCON_PASSWORD, "")
        join = join or argued.get(ServerSecret.JOIN_PASSWORD, "")
        # A new spec is validated completely, which takes longer than everything else here.
        return replace(spec, rcon_password=rcon, join_password=join) if rcon or join else spec


@dataclass(slots=True)
class LaunchSettings(LaunchTexts):
    """All that a server is started with.

    `place_references` is that of its blueprint: see `Blueprint`.
    """

    blueprint_id: int
    place_references: tuple[str | None, ...]
    port: int
    bind_address: str | None
    host_bind_address: str | None
    memory_limit_mib: int | None
    tasks_limit: int | None
    cpu_weight: int | None

    def to_spec(self) -> InstanceSpec:
        """Return what the host layer needs to make the server's instance.

        Raises ValueError with everything that is wrong with its arguments and configs, for an overlay without
        files, and for a password that cannot be decrypted.
        """
        spec, argued = self._make_spec()
        # Not through `make_spec`, which caches its arguments.
        return self.add_passwords(spec, argued)

    def to_bare_spec(self) -> InstanceSpec:
        """Return `to_spec` without its passwords: nothing is decrypted. Raises ValueError as that does."""
        spec, _ = self._make_spec()
        return spec

    def _make_spec(self) -> tuple[InstanceSpec, Mapping[ServerSecret, str]]:
        return make_spec(
            self.name,
            self.port,
            require_filled_overlays(self.blueprint_id, self.place_references),
            self.blueprint_arguments,
            self.arguments,
            self.configs,
            self.memory_limit_mib,
            self.tasks_limit,
            self.cpu_weight,
            self.bind_address or self.host_bind_address or "",
        )


@cache_of_texts(maxsize=4096)
def split_arguments(
    of_blueprint: str, of_server: str, configs: tuple[str, str]
) -> tuple[tuple[str, str], Mapping[ServerSecret, str]]:
    """Return both launch arguments without passwords, and the passwords among them that apply."""
    blueprint, own = take_secrets(of_blueprint, ""), take_secrets(of_server, "")
    argued = {
        secret: value
        for secret, value in (blueprint.values | own.values).items()
        # As in the game: a config is read after the launch arguments, and wins.
        if not any(sets_secret("", config, secret) for config in configs)
    }
    return (blueprint.arguments, own.arguments), argued


def read_token(name: str, secret: ServerSecret, token: str) -> str:
    """Return the password of the server `name` in a token, empty for none.

    Raises `SecretError` with a complete sentence.
    """
    if not token:
        return ""
    try:
        return decrypt(token)
    except SecretError as error:
        raise SecretError(
            gettext("The %(what)s of server %(name)s %(error)s.")
            % {"what": secret.words, "name": name, "error": error}
        ) from None


@cache_of_texts(maxsize=1024)  # Most servers have not changed since their last job.
def make_spec(
    name: str,
    port: int,
    overlays: tuple[str, ...],
    of_blueprint: str,
    of_server: str,
    configs: tuple[str, str],
    memory_limit_mib: int | None,
    tasks_limit: int | None,
    cpu_weight: int | None,
    bind_address: str,
) -> tuple[InstanceSpec, Mapping[ServerSecret, str]]:
    """Return a server in the host layer's form, without passwords, and those among its launch arguments.

    Raises ValueError if the host layer would refuse it.
    """
    arguments, argued = split_arguments(of_blueprint, of_server, configs)
    if faults := find_spec_faults(arguments, configs):
        raise ValueError("\n".join(faults))
    config = "\n".join(text.rstrip() for text in configs if text.strip())
    spec = InstanceSpec(
        name=name,
        port=port,
        overlays=overlays,
        arguments=join_arguments(*map(parse_arguments, arguments)),
        config=config + "\n" if config else "",
        memory_limit_bytes=None if memory_limit_mib is None else memory_limit_mib * MIB,
        tasks_limit=tasks_limit,
        cpu_weight=cpu_weight,
        bind_address=bind_address,
    )
    return spec, argued


@cache_of_texts(maxsize=4096)
def find_spec_faults(arguments: tuple[str, str], configs: tuple[str, str]) -> tuple[str, ...]:
    """Return the first faults of launch arguments and configs, each as (blueprint's, server's)."""
    whose = ("the blueprint’s", "the server’s own")
    faults = [
        f"In {owner} launch arguments: {fault}"
        for owner, text in zip(whose, arguments, strict=True)
        for fault in find_argument_faults(text)
    ]
    faults += [
        f"In {owner} config: {fault}"
        for owner, text in zip(whose, configs, strict=True)
        for fault in find_config_faults(text)
    ]
    if not faults:
        try:
            # Each may be short enough, while both together are too long for the engine.
            require_arguments(join_arguments(*map(parse_arguments, arguments)))
        except ArgumentsError as error:
            faults = [f"Blueprint and server together: {fault}" for fault in shorten(error.faults)]
    return tuple(faults)
