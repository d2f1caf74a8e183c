"""The service's answers."""

import unittest

from meter.server import answer


class Answer(unittest.TestCase):
    def test_health(self):
        self.assertEqual(answer("/health"), (200, {"status": "ok"}))

    def test_quote(self):
        self.assertEqual(answer("/quote?minutes=61"), (200, {"minutes": 61, "cents": 400}))

    def test_bad_quotes(self):
        for target in ("/quote", "/quote?minutes=x", "/quote?minutes=-1"):
            self.assertEqual(answer(target)[0], 400, target)

    def test_unknown_page(self):
        self.assertEqual(answer("/")[0], 404)


if __name__ == "__main__":
    unittest.main()
