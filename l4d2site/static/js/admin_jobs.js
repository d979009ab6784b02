// Keeps the admin's list of jobs up to date, as the panel's pages do.
import "./live/sources.js";
import "./live/live.js";
