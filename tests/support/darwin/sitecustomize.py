"""Makes every Python that is started with this folder in its PYTHONPATH a double of a Mac's."""

from tests.support.darwin import double

double.become()
