"""How hypothesis runs: without deadlines, on machines whose speed nobody knows.

``pytest --hypothesis-profile=thorough`` takes minutes where the default takes seconds. A
failure prints what reproduces it.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ordinary", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("ordinary"), max_examples=5_000)
settings.load_profile("ordinary")
