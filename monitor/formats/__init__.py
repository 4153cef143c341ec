"""Decoders of serving logs (SageMaker, KServe, Databricks, BentoML, Azure ML, Feast), used by sources.

None is there yet: this version reads tables whose columns are the features.
"""
