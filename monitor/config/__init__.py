"""The configuration: `load` turns config.yaml into typed values, with errors that name file and line."""

from monitor.config.load import load
from monitor.config.model import Config, MonitorConfig

__all__ = ["Config", "MonitorConfig", "load"]
