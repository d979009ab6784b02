"""An honest stand-in for Valve's programs: it speaks their protocols, and fails in every way they fail.

`steamcmd.py` stands in for SteamCMD and installs a small tree in the shape of Left 4 Dead 2's dedicated
server. That tree's `srcds_linux` is `srcds.py`, which has a console, logs, A2S and RCON, but no game. Both
say on their first line that they are simulated. The tree has a `srcds_run` too, as careless with its
arguments as Valve's: a release has one, though nothing of Saferoom executes it.

Everything in which they are known to differ from Valve's stands in `README.md` beside this file.

How they behave can be told by a JSON file whose path is in the environment variable `SAFEROOM_SIMULATOR`.
Each program reads it when it starts; without it, or without a setting in it, the default holds. A file with a
mistake in it ends the program with exit code 2 and a sentence on stderr. For example:

    {"steamcmd": {"build_id": "19684022", "seconds": 0, "fail": ["missing-configuration", null, "stall"]},
     "srcds": {"start_seconds": 0.1, "fail": "crash-after:5", "ports": [27016]}}

Of `steamcmd`:

| setting | default | meaning |
| --- | --- | --- |
| build_id | "19684021" | the build that Steam has; another one than the installed is an update |
| files | 0 | the least number of files in the game; it has about 110 by itself |
| lines | 0 | how many more progress lines there are |
| seconds | 4 | how long a first download takes, at its one line after the other; 0 is at once |
| buffered | false | hold the output back, as the real one does when it writes to a pipe |
| guard | "" | how accounts are protected: `email` and `app` ask for a code, `confirmation` for one in the |
| | | app, given at once; a login is kept in HOME and asks no more; without it no password is needed |
| guard_code | "ABC12" | the code that is right; any other one fails the login, exit code 5 |
| fail | [] | a list: how one run after the other ends, null for a run that works, and all later runs work |
| | | one name: every run ends that way |
| fail_times | always | with one name: how many runs end that way |

Runs are counted in a file beside the control file; writing the control file again starts from the first run.

| steamcmd fail | what happens |
| --- | --- |
| missing-configuration, invalid-platform, no-subscription, unknown-reason | `ERROR! Failed to install app`, |
| | exit code 8 |
| disk-full-0x202, network-0x402, disk-write-0x606, missing-files-0x626, corrupt-0x6A6 | half a download, |
| | then `Error! App '222860' state is 0x202 after update job.`, exit code 8 |
| disk-write-failure, not-enough-disk-space | half a download, then `ERROR! Failed to install app` |
| | with that reason, exit code 8 |
| login-failed | exit code 5 |
| rate-limit | the login is an `ERROR (Rate Limit Exceeded)`, exit code 5 |
| offline, refused | "needs to be online to update", exit code 254; http error 0 in `bootstrap_log.txt` |
| answered-by-another, answered-with-403 | the same, but a page that is not Steam's, or a 403 |
| offline-old | the same as older ones print it, behind `[  0%]`, exit code 7 |
| no-space-for-itself | "needs at least 250MB of free disk space", exit code 254 |
| threads | threads cannot be started, exit code 1 |
| silent | prints two lines and then nothing, until it is killed |
| no-exec | the shell's `Permission denied`, exit code 126 |
| app-info-timeout | exit code 1 |
| app-info-missing | `app_info_print` knows nothing of the app, exit code 0 |
| app-info-garbled | `app_info_print` names no build, exit code 0 |
| exit-0-without-success | half a download, not a word about it, exit code 0 |
| success-without-manifest | says `Success!` but leaves no manifest, exit code 0 |
| self-update-42 | says it has updated itself and wants to be run again, exit code 42 |
| self-update-endless | updates itself again and again within one run, as Valve's script has it, until killed |
| stall | half a download, then the same line again and again, until it is killed |
| crash | half a download, then SIGSEGV |
| killed, segfault | half a download, then the shell's word for it, exit code 137 or 139 |

Of `srcds`:

| setting | default | meaning |
| --- | --- | --- |
| start_seconds | 1 | time from start to the ready line; the map loads half-way |
| load_seconds | 0 | how long each map loads; meanwhile nothing is read or answered, SIGINT neither |
| fail | [] | one name, or a list of names which then all hold |
| fail_times | always | how many starts of each port fail |
| ports | all | the ports whose servers fail |
| missing_natives | [] | functions that no plugin and no extension has: one that uses them does not load |

| srcds fail | what happens |
| --- | --- |
| port-taken | cannot open its port, exit code 100 |
| crash-at-start | SIGSEGV before it is ready |
| crash-after:SECONDS | SIGSEGV so many seconds after it was ready |
| never-ready | runs, but has no ready line and answers no query |
| exit-early:CODE | ends by itself with this exit code before its port is open |
| missing-library | the dynamic loader does not find a library: its message on stderr, exit code 127 |
| no-query-answer | is ready, but answers no query |
| silent-on-loopback | answers no query at 127.0.0.0/8, unless it was bound there |
| hang-on-quit | `quit` makes it hang: only signals end it |
| map-falls-back | every later `map` and `changelevel` that is possible leads to c1m1_hotel |
| flood | prints as fast as it can from its first moment on, and does nothing else; only signals end it |
| flood-lines | does the same with lines of one character, which are the most there can be |
| ignore-sigint | SIGINT does nothing; with hang-on-quit, only SIGTERM and SIGKILL end it |

On a server's console `sim_help` lists the commands that only the simulator has: they let players join, and
things go wrong.
"""
