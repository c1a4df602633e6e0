"""All gates, in the order in which they are told."""

from __future__ import annotations

from fettle.releases.gates.answers import json_validity, personal_data
from fettle.releases.gates.cost import cost_per_correct_answer, cost_per_request
from fettle.releases.gates.forgetting import forgetting
from fettle.releases.gates.gate import Gate, GateInputs
from fettle.releases.gates.must_pass import must_pass
from fettle.releases.gates.serving import latency, parity
from fettle.releases.gates.win_rate import against_current, against_prompt
from fettle.releases.records import GateResult

GATES = (
    Gate(name="win_rate_against_prompt", look=against_prompt),
    Gate(name="win_rate_against_current", look=against_current),
    Gate(name="forgetting", look=forgetting),
    Gate(name="parity", look=parity),
    Gate(name="latency", look=latency),
    Gate(name="cost_per_request", look=cost_per_request),
    Gate(name="cost_per_correct_answer", look=cost_per_correct_answer),
    Gate(name="json_validity", look=json_validity),
    Gate(name="personal_data", look=personal_data),
    Gate(name="must_pass", look=must_pass),
)


def gate_results(inputs: GateInputs) -> tuple[GateResult, ...]:
    """What comes of all gates that are not switched off."""
    return tuple(result for gate in GATES if (result := gate.result(inputs)) is not None)
