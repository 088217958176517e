"""Which status becomes which class, and what the client reads from an error."""

import openai
from trial import Trial


async def scenario(t: Trial) -> None:
    await t.at(api_key="ty-" + "x" * 43).refused("models.list", openai.AuthenticationError)
    error = await t.at(project="proj-other").refused("models.list", openai.AuthenticationError)
    t.same("models.list", "code of another project's header", error.code, "mismatched_project")
    error = await t.refused("files.list", openai.UnprocessableEntityError, limit=0)
    t.same("files.list", "param", error.param, "limit")
