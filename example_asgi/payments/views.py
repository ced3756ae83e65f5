"""What the provider is asked, with an ``Idempotency-Key`` each time:

* ``POST /payments/charges/``: JSON ``order``, ``amount_cents``, ``card``
* ``POST /payments/refunds/``: JSON ``order``, all of whose money goes back
"""

import json
import time

from django.conf import settings
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from orders import ledger

from payments.provider import Wish, charge, refund


@csrf_exempt  # called by programs, which have no session that could be abused
@require_POST
def charges(request):
    wish = _wish(request)
    if wish is None:
        return JsonResponse({"error": "not a charge, or no Idempotency-Key"}, status=400)
    ledger.write(wish.order, "charge", key=wish.key)
    reply = charge(wish)
    # The money has moved and the shop does not know yet: the worst moment for it to be killed,
    # which is why `python3 example_asgi --kill` picks it.
    time.sleep(settings.PAYMENTS_ANSWER_SECONDS)
    headers = {} if reply.retry_after is None else {"Retry-After": str(reply.retry_after)}
    return JsonResponse(reply.body, status=reply.status, headers=headers)


@csrf_exempt
@require_POST
def refunds(request):
    key = request.headers.get("Idempotency-Key", "")
    try:
        order = json.loads(request.body)["order"]
    except (ValueError, TypeError, KeyError):
        order = None
    if not isinstance(order, str) or not 0 < len(order) <= 40 or not 0 < len(key) <= 200:
        return JsonResponse({"error": "not a refund, or no Idempotency-Key"}, status=400)
    reply = refund(key, order)
    return JsonResponse(reply.body, status=reply.status)


def _wish(request):
    key = request.headers.get("Idempotency-Key", "")
    try:
        asked = json.loads(request.body)
        order, amount, card = asked["order"], asked["amount_cents"], asked["card"]
    except (ValueError, TypeError, KeyError):
        return None
    texts = all(isinstance(text, str) and 0 < len(text) <= 40 for text in (order, card))
    if not texts or type(amount) is not int or amount < 0 or not 0 < len(key) <= 200:
        return None
    return Wish(key=key, order=order, amount_cents=amount, card=card)
