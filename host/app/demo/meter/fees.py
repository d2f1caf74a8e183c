"""The tariff: pure functions over minutes and cents."""

FREE_MINUTES = 10
HOUR_CENTS = 200
DAY_CENTS = 1500
DAY_MINUTES = 24 * 60


def started_hours(minutes):
    """Counts the hours that were begun."""
    return minutes // 60 + 1


def day_fee(minutes):
    """Gives the fee for a stay within one day."""
    if minutes <= FREE_MINUTES:
        return 0
    return min(started_hours(minutes) * HOUR_CENTS, DAY_CENTS)


def fee(minutes):
    """Gives the fee for a stay of any length."""
    if minutes < 0:
        raise ValueError("a stay cannot be negative")
    days, rest = divmod(minutes, DAY_MINUTES)
    return days * DAY_CENTS + day_fee(rest)
