// What the pages can do beyond plain forms and links; without this file they still work.
import "./sources.js";
import "./copy.js";
import "./live.js";
import "./log.js";
import "./times.js";
