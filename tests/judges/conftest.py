from hypothesis import settings

# A busy machine makes single examples slow; the suite's own time limit is enough.
settings.register_profile("judges", deadline=None)
settings.load_profile("judges")
