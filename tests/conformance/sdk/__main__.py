"""`python tests/conformance/sdk sync|async`: goes through the methods; prints {method: [differences]} as JSON.

Runs where nothing but the `openai` package is installed. TRAINYARD_URL, TRAINYARD_KEY and TRAINYARD_MODEL say where.
"""

import asyncio
import json
import os
import sys

import errors
import evals
import files
import fine_tuning
import models
import openai
import uploads
import webhooks
from trial import Trial

SCENARIOS = (
    files.scenario,
    uploads.scenario,
    evals.scenario,
    models.scenario,
    errors.scenario,
    fine_tuning.scenario,
    webhooks.scenario,
)


async def main(mode: str) -> None:
    kind = openai.AsyncOpenAI if mode == "async" else openai.OpenAI
    client = kind(
        base_url=os.environ["TRAINYARD_URL"] + "/v1",
        api_key=os.environ["TRAINYARD_KEY"],
        _strict_response_validation=True,  # every answer must be of the type that its method promises
    )
    trial = Trial(client)
    for scenario in SCENARIOS:
        await trial.run(scenario)
    sys.stdout.write(json.dumps(trial.differences))


asyncio.run(main(sys.argv[1]))
