"""Reports: a view of a run from the store, rendered to one self-contained HTML file by a scanning worker."""
