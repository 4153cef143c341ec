"""The demo: a year of real flights, a model that predicts late arrivals, three planted faults, and driftd between the days."""
