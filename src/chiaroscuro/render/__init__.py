"""NumPy arrays to pictures and figures. Knows no method and no torch."""


def percent(share: float) -> str:
    """A share in percent; one that is not quite none or all says so.

    >>> percent(0.123), percent(0.0001), percent(0.9999)
    ('12.3 %', '< 0.1 %', '> 99.9 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 < share < 1 else f"{100 * share:.1f} %"
