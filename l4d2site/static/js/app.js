// What the pages can do beyond plain forms and links; without this file they still work.
import "./sources.js";
import "./copy.js";
import "./live.js";
import "./log_options.js";
import "./log.js";
import "./log_copy.js";
import "./times.js";
