"""From rows to profiles: the plan, the streamed Arrow executor, binning, and counts of labelled rows."""
