"""Commands are run, followed, and ended with everything they started."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from hostops.errors import CommandError, HostError, OperationCancelled
from hostops.linux.lines import MAX_LINE_BYTES
from hostops.linux.process import minimal_environment, run
from hostops.linux.process_identity import living_processes
from hostops.specs import CancelToken
from tests.hostops.hosts import Output
from tests.waiting import wait_until

HOME = Path("/nonexistent")


def python(program: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", program]


def run_here(argv: list[str], output: Output, **options: object) -> None:
    run(argv, environment=minimal_environment(HOME), on_line=output.on_line, **options)  # type: ignore[arg-type]


def test_it_gives_both_streams_line_by_line_from_two_threads() -> None:
    output = Output()
    threads = set()
    both_read = threading.Barrier(2, timeout=10)

    def on_line(stream: str, line: str) -> None:
        threads.add(threading.get_ident())
        both_read.wait()  # passes only if both streams are read at the same time
        output.on_line(stream, line)

    program = "import sys; print('out'); print('err', file=sys.stderr)"
    run(python(program), environment=minimal_environment(HOME), on_line=on_line)
    assert sorted(output.lines) == [("stderr", "err"), ("stdout", "out")]
    assert len(threads) == 2


def test_a_failure_carries_the_command_and_its_exit_code() -> None:
    with pytest.raises(CommandError, match="ended with exit code 7") as caught:
        run_here(python("raise SystemExit(7)"), Output())
    assert caught.value.returncode == 7
    assert caught.value.cmd[0] == sys.executable


def test_a_death_by_signal_is_told_by_its_name() -> None:
    with pytest.raises(CommandError, match="was ended by SIGKILL") as caught:
        run_here(python("import os; os.kill(os.getpid(), 9)"), Output())
    assert caught.value.returncode == -signal.SIGKILL


def test_a_command_that_is_not_there_says_so() -> None:
    with pytest.raises(HostError, match=r"/no/such/program could not be started: No such file"):
        run_here(["/no/such/program"], Output())


def test_bad_bytes_and_long_lines_come_through_in_bounds() -> None:
    output = Output()
    program = f"import os; os.write(1, b'\\xff\\n' + b'x' * {3 * MAX_LINE_BYTES} + b'\\n')"
    run_here(python(program), output)
    assert [len(line) for _, line in output.lines] == [1, *([MAX_LINE_BYTES] * 3)]


def test_a_pty_makes_a_program_print_at_once() -> None:
    output = Output()
    cancel = CancelToken()
    # Without a terminal, Python holds this back until it ends, which it never does.
    output.when("ready", cancel.cancel)
    program = "import signal; print('ready'); signal.pause()"
    with pytest.raises(OperationCancelled):
        run_here(python(program), output, use_pty=True, cancel=cancel)
    assert output.lines == [("stdout", "ready")]


def test_nothing_of_our_environment_or_descriptors_leaks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_KEY", "do not tell")
    output = Output()
    with (tmp_path / "file").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        program = "import os; print(sorted(os.environ)); print(sorted(map(int, os.listdir('/proc/self/fd'))))"
        run_here(python(program), output)
    assert "SECRET_KEY" not in output.text
    # listdir itself uses the last one.
    assert output.lines[-1] == ("stdout", "[0, 1, 2, 3]")


def test_a_cancel_ends_the_whole_group_also_one_that_ignores_sigterm() -> None:
    output = Output()
    cancel = CancelToken()
    output.when("ready", cancel.cancel)
    program = (
        "import os, signal; signal.signal(15, signal.SIG_IGN); os.fork(); "
        "os.write(1, b'ready %d\\n' % os.getpid()); signal.pause()"
    )
    cancel.reason = ""
    with pytest.raises(OperationCancelled):
        run_here(python(program), output, cancel=cancel, grace_seconds=0.2)
    members = [int(line.split()[1]) for _, line in output.lines if line.startswith("ready")]
    assert members
    assert not {process.pid for process in living_processes()} & set(members)


def test_children_that_a_command_leaves_behind_are_ended() -> None:
    output = Output()
    program = "import os, signal\nif os.fork() == 0: signal.pause()\nelse: print(os.getpgid(0))"
    run_here(python(program), output, grace_seconds=5)
    group = int(output.lines[0][1])
    assert not [process for process in living_processes() if process.group == group]


def test_a_process_that_left_the_group_does_not_hold_the_call_up(tmp_path: Path) -> None:
    output = Output()
    pid_path = tmp_path / "pid"
    program = (
        "import os, signal\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    open({str(pid_path)!r}, 'w').write(str(os.getpid()))\n"
        "    signal.pause()\n"
        "while not os.path.exists(" + repr(str(pid_path)) + "): pass\n"
        "print('done')"
    )
    run_here(python(program), output)
    assert output.lines == [("stdout", "done")]
    wait_until(pid_path.read_text, 5, "the daemon wrote its number")
    os.kill(int(pid_path.read_text()), signal.SIGKILL)


def test_an_error_in_a_callback_ends_the_command_and_is_raised() -> None:
    def on_line(_stream: str, _line: str) -> None:
        raise RuntimeError("the log cannot be written")

    program = "import os, signal; os.write(1, b'line\\n'); signal.pause()"
    with pytest.raises(RuntimeError, match="the log cannot be written"):
        run(python(program), environment=minimal_environment(HOME), on_line=on_line)


def test_what_is_raised_while_it_runs_ends_the_whole_group() -> None:
    pids: list[int] = []

    def look() -> None:
        if pids:
            raise HostError("It takes too long.")

    program = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with pytest.raises(HostError, match="It takes too long"):
        run(
            [sys.executable, "-S", "-c", program],
            environment={},
            on_line=lambda _, line: pids.append(int(line)),
            on_wait=look,
        )
    assert pids[0] not in {process.pid for process in living_processes()}


def test_a_cancelled_operation_starts_no_command(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(OperationCancelled):
        run_here(["/bin/touch", str(tmp_path / "touched")], Output(), cancel=cancel)
    assert not (tmp_path / "touched").exists()


ASKING = """
import sys
for number in (1, 2):
    print(f"asking {number}")
    print("code: ", end="", flush=True)
    print("got", len(sys.stdin.readline()), flush=True)
"""


def test_a_prompt_is_answered_once_and_the_terminal_does_not_show_what_is_typed() -> None:
    output, prompts = Output(), []

    def answer(prompt: str) -> str | None:
        prompts.append(prompt)
        return "sesame" if prompt.endswith("code: ") else None

    run_here(python(ASKING), output, use_pty=True, on_prompt=answer)
    assert prompts.count("code: ") == 2
    assert [line for _, line in output.lines] == [
        *("asking 1", "code: got 7", "asking 2", "code: got 7"),
    ]


def test_what_a_prompt_raises_ends_the_command() -> None:
    def refuse(prompt: str) -> str | None:
        raise HostError(f"No answer to {prompt}")

    program = "print('code: ', end='', flush=True); input()"
    with pytest.raises(HostError, match="No answer to code"):
        run_here(python(program), Output(), use_pty=True, on_prompt=refuse)
