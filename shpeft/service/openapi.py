"""The description of the interface, by which other programs make their clients."""

from typing import Any

import shpeft
from shpeft import NOTICE

ERRORS = {
    "401": "The token is missing or wrong.",
    "404": "There is no such model.",
    "413": "The body is too large.",
    "422": "The image or the query cannot be used; the sentence says why and what to do.",
    "429": "Too many requests.",
    "503": "The model is busy.",
}

IMAGE = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
}

ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "run", "answer", "notice"],
    "properties": {
        "id": {"type": "string"},
        "run": {"type": "string"},
        "answer": {
            "type": "object",
            "required": ["answered", "headline", "reasons"],
            "properties": {
                "answered": {"type": "boolean"},
                "headline": {"type": "string", "description": "The answer, or No answer."},
                "reasons": {"type": "array", "items": {"type": "string"}},
                "estimate": {"type": "object", "description": "Of a regression, the number with its interval."},
            },
        },
        "cautions": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Sentences that a reader needs before the answer.",
        },
        "burnt_in": {
            "type": "object",
            "description": "Text and markers in the pixels.",
            "required": ["present", "seen", "stated", "sentence"],
            "properties": {
                "present": {"type": "boolean", "description": "Whether any are seen, or stated by the file."},
                "seen": {"type": "array", "items": {"enum": ["calipers", "color", "text"]}},
                "stated": {"type": ["boolean", "null"], "description": "BurnedInAnnotation of a DICOM file."},
                "sentence": {"type": "string", "description": "What a reader should know; empty if there are none."},
            },
        },
        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
        "notice": {"type": "string"},
    },
}

MODEL = {
    "type": "object",
    "required": ["name", "backbone", "classes", "fingerprints"],
    "properties": {
        "name": {"type": "string"},
        "backbone": {"type": "string"},
        "classes": {"type": "array", "items": {"type": "string"}},
        "fingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def document(models: list[str], rules: tuple[str, ...]) -> dict[str, Any]:
    """Return the OpenAPI document of these models.

    Examples:
        >>> sorted(document(["first"], ("mean",))["paths"])
        ['/api/diagnose', '/api/models', '/api/results', '/healthz']
    """
    model = _parameter("model", models, "Name of the run; by default the first one.")
    rule = _parameter(
        "series_rule", list(rules), "Take the body for a zip of DICOM series, and answer each by this rule."
    )
    answers = {"oneOf": [ANSWER, {"type": "array", "items": ANSWER}]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "shpeft", "version": shpeft.__version__, "description": NOTICE},
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            },
        },
        "paths": {
            "/healthz": {
                "get": {
                    "summary": "Whether the service runs.",
                    "security": [],
                    "responses": {"200": _json("It runs.", {"type": "object", "required": ["status"]})},
                }
            },
            "/api/models": {
                "get": {
                    "summary": "The models with their classes and fingerprints.",
                    "responses": {
                        "200": _json("The models.", {"type": "array", "items": MODEL}),
                        **_errors("401", "422", "429"),
                    },
                }
            },
            "/api/diagnose": {
                "post": {
                    "summary": "Diagnose an image of any format, or the DICOM series of a zip.",
                    "parameters": [model, rule],
                    "requestBody": IMAGE,
                    "responses": {"200": _json("The answer.", answers), **_errors(*ERRORS)},
                }
            },
            "/api/results": {
                "post": {
                    "summary": "Diagnose a DICOM file; returns a zip of DICOM objects for its study.",
                    "parameters": [model],
                    "requestBody": IMAGE,
                    "responses": {
                        "200": {
                            "description": "The results.",
                            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
                        },
                        **_errors(*ERRORS),
                    },
                }
            },
        },
    }


def _parameter(name: str, values: list[str], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", "enum": values}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*codes: str) -> dict[str, Any]:
    return {code: _json(ERRORS[code], {"$ref": "#/components/schemas/Error"}) for code in codes}
