"""Names of settings: sysctl(8), sysctl.d(5)."""

import pytest

from skerry.spec.sysctl import sysctl_path


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("plain", "plain"),
    ],
)
def test_path(key: str, path: str) -> None:
    """The pairs are those of sysctl.d(5)."""
    assert sysctl_path(key) == path
