"""Routes of webhooks and their deliveries."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import JSONResponse, Response

from api.auth import Owner
from api.dependencies import WHOLE_NAME, Cursor, Limit, TheService
from api.openapi import COMMON, problems
from api.route import Route
from api.schemas import DeliveryDetail, DeliveryView, NewWebhookView, Page, WebhookView
from shared.db.engine import read, write
from shared.specs.webhooks import WebhookPatch, WebhookSpec
from shared.webhooks import deliveries, subscriptions
from shared.webhooks.models import DeliveryState

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=COMMON, route_class=Route)

WebhookRef = Annotated[str, Path(pattern=WHOLE_NAME, description="The webhook's id, or its name.")]
DeliveryId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="The delivery's id.")]


@router.post("", status_code=201, response_model=NewWebhookView, responses=problems(409), summary="Create a webhook")
def create(spec: WebhookSpec, service: TheService, owner: Owner) -> JSONResponse:
    """The response holds the signing secret, which is shown only once. Names are unique per owner."""
    with write(service.engine) as conn:
        allow_private = service.settings.webhooks_allow_private
        webhook_id, secret = subscriptions.create(conn, owner, spec, allow_private=allow_private)
        shown = {**subscriptions.show(conn, webhook_id), "secret": secret}
    return JSONResponse(shown, status_code=201, headers={"Location": f"/v1/webhooks/{shown['id']}"})


@router.get("", response_model=Page[WebhookView], summary="List the webhooks")
def list_webhooks(service: TheService, owner: Owner) -> dict[str, Any]:
    """Without their secrets."""
    with read(service.engine) as conn:
        return {"items": subscriptions.list_webhooks(conn, owner)}


@router.get("/{webhook}", response_model=WebhookView, responses=problems(404), summary="Show a webhook")
def show(webhook: WebhookRef, service: TheService, owner: Owner) -> dict[str, Any]:
    """Without its secret."""
    with read(service.engine) as conn:
        return subscriptions.show(conn, subscriptions.find_id(conn, webhook, owner))


@router.patch(
    "/{webhook}",
    response_model=WebhookView,
    responses=problems(404, 409),
    summary="Change, pause or resume a webhook",
)
def change(webhook: WebhookRef, patch: WebhookPatch, service: TheService, owner: Owner) -> dict[str, Any]:
    """Omitted fields are kept. While `enabled` is false, nothing is sent and no event is kept for later."""
    with write(service.engine) as conn:
        webhook_id = subscriptions.find_id(conn, webhook, owner)
        allow_private = service.settings.webhooks_allow_private
        subscriptions.change(conn, webhook_id, owner, patch.changes(), allow_private=allow_private)
        return subscriptions.show(conn, webhook_id)


@router.delete("/{webhook}", status_code=204, responses=problems(404), summary="Delete a webhook")
def remove(webhook: WebhookRef, service: TheService, owner: Owner) -> Response:
    """With its deliveries, sent or not."""
    with write(service.engine) as conn:
        subscriptions.remove(conn, subscriptions.find_id(conn, webhook, owner), owner)
    return Response(status_code=204)


@router.post(
    "/{webhook}/rotate",
    response_model=NewWebhookView,
    responses=problems(404),
    summary="Rotate a webhook's secret",
)
def rotate(webhook: WebhookRef, service: TheService, owner: Owner) -> dict[str, Any]:
    """The new secret is shown only once. For another day deliveries are also signed with the old one."""
    with write(service.engine) as conn:
        webhook_id = subscriptions.find_id(conn, webhook, owner)
        secret = subscriptions.rotate(conn, webhook_id, owner)
        return {**subscriptions.show(conn, webhook_id), "secret": secret}


@router.post(
    "/{webhook}/test",
    status_code=202,
    response_model=DeliveryDetail,
    responses=problems(404, 409),
    summary="Send a test delivery",
)
def send_test(webhook: WebhookRef, service: TheService, owner: Owner) -> dict[str, Any]:
    """Sent like every delivery, within seconds. 409 while the webhook is paused."""
    with write(service.engine) as conn:
        webhook_id = subscriptions.find_id(conn, webhook, owner)
        return subscriptions.delivery(conn, webhook_id, subscriptions.send_test(conn, webhook_id, owner))


@router.get(
    "/{webhook}/deliveries",
    response_model=Page[DeliveryView],
    responses=problems(400, 404),
    summary="List a webhook's deliveries",
)
def history(
    webhook: WebhookRef,
    service: TheService,
    owner: Owner,
    state: Annotated[DeliveryState | None, Query(description="Only deliveries in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Newest first; settled deliveries are kept for 30 days."""
    with read(service.engine) as conn:
        page = subscriptions.history(conn, subscriptions.find_id(conn, webhook, owner), state, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}


@router.get(
    "/{webhook}/deliveries/{delivery}",
    response_model=DeliveryDetail,
    responses=problems(404),
    summary="Show a delivery with its body",
)
def show_delivery(webhook: WebhookRef, delivery: DeliveryId, service: TheService, owner: Owner) -> dict[str, Any]:
    """The body is exactly the one that is sent."""
    with read(service.engine) as conn:
        return subscriptions.delivery(conn, subscriptions.find_id(conn, webhook, owner), delivery)


@router.post(
    "/{webhook}/deliveries/{delivery}/redeliver",
    status_code=202,
    response_model=DeliveryDetail,
    responses=problems(404, 409),
    summary="Redeliver",
)
def redeliver(webhook: WebhookRef, delivery: DeliveryId, service: TheService, owner: Owner) -> dict[str, Any]:
    """With the same `webhook-id` and as many attempts as a new delivery. 409 while it is not settled."""
    with write(service.engine) as conn:
        webhook_id = subscriptions.find_id(conn, webhook, owner)
        deliveries.send_again(conn, webhook_id, delivery)
        return subscriptions.delivery(conn, webhook_id, delivery)
