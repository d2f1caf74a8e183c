"""The tariff, case by case."""

import unittest

from meter.fees import DAY_CENTS, fee, started_hours


class StartedHours(unittest.TestCase):
    def test_a_begun_hour_counts(self):
        self.assertEqual(started_hours(1), 1)
        self.assertEqual(started_hours(61), 2)
        self.assertEqual(started_hours(121), 3)
        self.assertEqual(started_hours(601), 11)

    def test_a_full_hour_is_one_hour(self):
        self.assertEqual(started_hours(60), 1)
        self.assertEqual(started_hours(120), 2)


class Fee(unittest.TestCase):
    def test_a_short_stop_is_free(self):
        self.assertEqual(fee(0), 0)
        self.assertEqual(fee(10), 0)

    def test_after_the_free_minutes_the_hour_is_charged(self):
        self.assertEqual(fee(11), 200)
        self.assertEqual(fee(59), 200)

    def test_hours_add_up(self):
        self.assertEqual(fee(61), 400)
        self.assertEqual(fee(150), 600)

    def test_a_day_has_a_limit(self):
        self.assertEqual(fee(23 * 60), DAY_CENTS)
        self.assertEqual(fee(24 * 60), DAY_CENTS)
        self.assertEqual(fee(25 * 60 + 1), DAY_CENTS + 400)

    def test_negative_stays_are_refused(self):
        with self.assertRaises(ValueError):
            fee(-1)


if __name__ == "__main__":
    unittest.main()
