// What the pages can do beyond plain forms and links; they still work without this file.
import "./live/sources.js";
import "./forms/chapters.js";
import "./forms/chosen.js";
import "./forms/copy.js";
import "./forms/too_long.js"; // Before what sends a form.
import "./forms/in_place.js";
import "./forms/menus.js";
import "./forms/passkeys.js";
import "./forms/places.js";
import "./forms/place_search.js";
import "./forms/secrets.js";
import "./forms/select_all.js";
import "./forms/tabs.js";
import "./forms/unsaved.js";
import "./forms/once.js"; // After those that keep the page, or remember that a form was sent.
import "./live/live.js";
import "./live/awaits.js";
import "./log/options.js";
import "./log/log.js";
import "./log/copy_lines.js";
import "./log/guest_log.js";
import "./console/prompt.js";
import "./live/times.js";
