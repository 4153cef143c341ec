"""What is made of counts beside metrics: estimates without labels, comparison of versions, fairness, weakest slices."""
