"""An address that is taken out of launch arguments, and what remains of them."""

import pytest

from hostops.launch_arguments import ArgumentsError, parse_arguments, take_bind_address
from hostops.linux.sockets import WILDCARD


@pytest.mark.parametrize(
    ("text", "rest", "address"),
    [
        ("-ip 0.0.0.0 +map c2m1_highway", "+map c2m1_highway", WILDCARD),
        ("-insecure -ip 10.0.0.2", "-insecure", "10.0.0.2"),
        ("-insecure\r\n-ip 10.0.0.2\r\n+map a", "-insecure\r\n+map a", "10.0.0.2"),
        ("-insecure -ip 10.0.0.2\n+map a", "-insecure\n+map a", "10.0.0.2"),
        ("-IP \\\n10.0.0.2 \\\n+map a", "\\\n+map a", "10.0.0.2"),
        ("+map a", "+map a", ""),
        ('+hostname "x -ip 10.0.0.2"', '+hostname "x -ip 10.0.0.2"', ""),
        ("+hostname 'x\n-ip 10.0.0.2'", "+hostname 'x\n-ip 10.0.0.2'", ""),
        ("'-ip' 10.0.0.2", "'-ip' 10.0.0.2", ""),
    ],
)
def test_an_address_is_taken_out_and_the_rest_stays_as_it_was_written(
    text: str, rest: str, address: str
) -> None:
    assert take_bind_address(text) == (rest, address)


def test_what_is_left_means_what_it_meant() -> None:
    rest, _ = take_bind_address('+map "c2m1_highway coop" \\\n -ip 10.0.0.2 \\\n -insecure')
    assert parse_arguments(rest) == ("+map", "c2m1_highway coop", "-insecure")


@pytest.mark.parametrize("text", ["-ip", "-ip x", "-ip ::1", "-ip 10.0.0.2 -ip 10.0.0.2"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ArgumentsError, match="-ip takes one IPv4 address"):
        take_bind_address(text)
