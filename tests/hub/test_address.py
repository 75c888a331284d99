"""hub.address: addresses as a configuration has them."""

from __future__ import annotations

import pytest

from hub.address import Address


@pytest.mark.parametrize(
    ("given", "text", "host", "port", "is_loopback"),
    [
        ("127.0.0.1:24224", "127.0.0.1:24224", "127.0.0.1", 24224, True),
        (" localhost:1 ", "127.0.0.1:1", "127.0.0.1", 1, True),
        ("[0:0::1]:02", "[::1]:2", "::1", 2, True),
        ("127.8.0.1:0", "127.8.0.1:0", "127.8.0.1", 0, True),
        ("0.0.0.0:65535", "0.0.0.0:65535", "0.0.0.0", 65535, False),
        ("[::]:1", "[::]:1", "::", 1, False),
        ("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1", 1, False),
        ("[2001:DB8::1]:1", "[2001:db8::1]:1", "2001:db8::1", 1, False),
    ],
)
def test_addresses(given: str, text: str, host: str, port: int, is_loopback: bool) -> None:
    """One address has one form, and it is known whether other hosts can reach it."""
    address = Address.parse(given)
    assert (address, address.host, address.port, address.is_loopback) == (text, host, port, is_loopback)


@pytest.mark.parametrize(
    "given",
    ["", "1", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "a.example:1", "::1:1",
     "[127.0.0.1]:1", "127.0.0.1:\u0661", "*:1", 1, None],
)  # fmt: skip
def test_what_is_no_address(given: object) -> None:
    """The error shows the right form."""
    with pytest.raises(ValueError, match=r"^not an address: .* \(write it like 127\.0\.0\.1:24224, \[::1\]:24224 or "):
        Address.parse(given)
