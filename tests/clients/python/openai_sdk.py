"""OpenAI's SDK, sync and async; it asks for base64 unless it is told otherwise."""

import asyncio
import json
import os

import openai

ACCOUNT = os.environ["CLOUDFLARE_ACCOUNT_ID"]
URL = f"{os.environ['CLOUDFLARE_BASE_URL']}/accounts/{ACCOUNT}/ai/v1"
TOKEN, MODEL = os.environ["CLOUDFLARE_API_TOKEN"], os.environ["MODEL"]
TEXTS = ["a forgotten password", "ripe bananas"]

client = openai.OpenAI(base_url=URL, api_key=TOKEN)
packed = client.embeddings.create(model=MODEL, input=TEXTS)
plain = client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="float")


async def ask() -> list[float]:
    async with openai.AsyncOpenAI(base_url=URL, api_key=TOKEN) as asynchronous:
        made = await asynchronous.embeddings.create(model=MODEL, input=TEXTS[1])
        return made.data[0].embedding


def refusal(model: str, token: str) -> list[object]:
    try:
        openai.OpenAI(base_url=URL, api_key=token).embeddings.create(model=model, input="x")
    except openai.APIStatusError as error:
        return [type(error).__name__, error.message]
    return []


print(
    json.dumps(
        {
            "packed": [each.embedding for each in packed.data],
            "places": [each.index for each in packed.data],
            "model": packed.model,
            "tokens": packed.usage.total_tokens,
            "plain": plain.data[0].embedding,
            "async": asyncio.run(ask()),
            "unknown_model": refusal("@cf/none/such", TOKEN),
            "wrong_token": refusal(MODEL, "wrong"),
        }
    )
)
