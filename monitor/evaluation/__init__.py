"""What a scanning worker does with a job: resolve settings, scan, judge. Plain values in and out."""
