"""One API key as the operator declares it: its fields, their limits. The table in docs/secrets.md is made from them."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from roles.field_errors import cross_field
from roles.gateway.declared_keys.host_rules import gateway_keys
from roles.model_serving import rules
from roles.secrets.source import SecretFrom

NAME_PATTERN = gateway_keys.NAME.pattern
# Their hash needs no salt when nobody can try them all.
SHORTEST = 32
NEVER = gateway_keys.NEVER


def _matches(pattern: str, wanted: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(wanted)  # without the value: in the wrong place it may be the key
        return value

    return AfterValidator(check)


class DeclaredKey(BaseModel):
    """A key that the deploy puts on every gateway. What it is comes from elsewhere; here is what it may do."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    name: Annotated[
        str,
        _matches(NAME_PATTERN, "must be 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"),
    ] = Field(description="what the gateway's log calls it", json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})
    source: SecretFrom | None = Field(
        None,
        alias="from",
        description=f"where the key comes from; it has at least {SHORTEST} characters. Either this or `sha256`",
    )
    sha256: Annotated[str, _matches(r"[0-9a-f]{64}", "must be 64 of 0-9 and a-f, not the key itself")] | None = Field(
        None,
        description=f"its SHA-256 in hexadecimal, when somebody else keeps the key; of {SHORTEST} random characters "
        "or more, since nobody checks that",
    )
    expires: str | None = Field(
        None, description="the last day it is good for, in UTC, as `2027-01-31`, or a time as `2027-01-31T18:00:00Z`"
    )
    models: list[str] | None = Field(None, description="ids of the models it may use; null: all")
    requests_per_minute: int | None = Field(
        None, ge=1, le=gateway_keys.REQUESTS_PER_MINUTE_MAX, description="requests per minute; null: no limit"
    )

    @field_validator("expires")
    @classmethod
    def _is_a_moment(cls, value: str | None) -> str | None:
        if value is not None:
            gateway_keys.moment(value)
        return value

    @field_validator("models")
    @classmethod
    def _are_ids(cls, value: list[str] | None) -> list[str] | None:
        if value == []:
            raise ValueError("names no model: leave `models` out for all of them, or take the key out")
        for model_id in value or ():
            if rules.model_id(model_id) is not None:
                raise ValueError("must be ids of models of the model list")
        return value

    @model_validator(mode="after")
    def _has_one_origin(self) -> "DeclaredKey":
        if (self.source is None) == (self.sha256 is None):
            cross_field([(("from",), "must be there, or `sha256`: one of the two")])
        return self

    @property
    def ends(self) -> int:
        """In seconds of Unix time."""
        return NEVER if self.expires is None else gateway_keys.moment(self.expires)


FIELDS = tuple(field.alias or name for name, field in DeclaredKey.model_fields.items())
