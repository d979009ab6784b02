// The admin's list of jobs keeps itself true, as the panel's pages do.
import "./live/sources.js";
import "./live/live.js";
