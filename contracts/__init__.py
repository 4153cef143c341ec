"""Data contracts of the Open Data Contract Standard: pure functions from a document to rules and from counts to violations."""
