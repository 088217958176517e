"""The routes that OpenAI's clients use in addition to those that both APIs share: files, models and chat."""

from fastapi import APIRouter

from api.openai.evals.routes import router as evals
from api.openai.fine_tuning.routes import router as fine_tuning
from api.openai.graders.routes import router as graders
from api.openai.permissions.routes import router as permissions
from api.openai.uploads.routes import router as uploads
from api.openai.webhooks.routes import router as webhooks

router = APIRouter()
for _part in (fine_tuning, permissions, graders, uploads, evals, webhooks):
    router.include_router(_part)
