"""client.models"""

import os

import openai
from trial import Trial


async def scenario(t: Trial) -> None:
    base = os.environ["TRAINYARD_MODEL"]
    listed = await t.every("models.list")
    t.same("models.list", "objects", {model.object for model in listed}, {"model"})
    shown = await t.call("models.retrieve", base)
    t.same("models.retrieve", "is listed", shown.id in {model.id for model in listed}, True)
    named = await t.call("models.retrieve", f"{base}/1")  # the slash goes out as %2F
    t.same("models.retrieve", "by name and version", named, shown)
    error = await t.refused("models.retrieve", openai.NotFoundError, "ft:no:such:model:00000")
    t.same("models.retrieve", "code", error.code, "model_not_found")
    await t.refused("models.delete", openai.NotFoundError, "no/1")
