"""The JSON Schema of config.yaml, for editors."""

from __future__ import annotations

from typing import Any

from monitor.config.load import Registries
from monitor.config.model import Config, MonitorConfig


def json_schema(registries: Registries) -> dict[str, Any]:
    """The schema, with the union of source and channel kinds taken from the registries."""
    schema = Config.model_json_schema(by_alias=True, mode="validation")
    monitor = MonitorConfig.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    definitions.update(monitor.pop("$defs", {}))
    for internal in ("path", "hashes", "warnings"):
        schema["properties"].pop(internal, None)
    monitor["properties"].pop("name", None)
    monitor["required"] = [key for key in monitor.get("required", []) if key != "name"]
    source = {"anyOf": [{"type": "string"}, *(_plugin(model, definitions) for model in registries.sources.values())]}
    channel = {"anyOf": [_plugin(model, definitions) for model in registries.channels.values()]}
    monitor["properties"]["source"] = source
    definitions["Labels"]["properties"]["source"] = source
    definitions["ContractConfig"]["properties"]["data"]["additionalProperties"] = source
    monitor["properties"]["contract"]["anyOf"].insert(0, {"type": "string"})
    definitions["MonitorConfig"] = monitor
    schema["properties"]["channels"] = {"type": "object", "additionalProperties": channel}
    schema["properties"]["monitors"] = {"type": "object", "additionalProperties": {"$ref": "#/$defs/MonitorConfig"}}
    schema["required"] = []
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "driftd config.yaml"
    return schema


def _plugin(model: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema(by_alias=True, mode="validation")
    definitions.update(schema.pop("$defs", {}))
    return schema
