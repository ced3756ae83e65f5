"""``WorkflowRunAdminMixin``: which pages there are, who may see them and what is called from them.

Rows belong to the journal: nothing is added, changed or deleted here (``hookflow prune``
removes). Every read is one of the alias that holds the journal.

Longer than 250 lines because one ``ModelAdmin`` is one class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import django
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext_lazy as _

from django_hookflow.admin.acting import (
    AT_ONCE,
    CANCEL,
    PAUSE,
    RESUME,
    RETRY,
    VERBS,
    Verb,
    act,
    too_many,
)
from django_hookflow.admin.filters import (
    STATUS_LABELS,
    BlockedFilter,
    StatusFilter,
    WorkflowFilter,
)
from django_hookflow.admin.listing import BoundedPaginator, RunChangeListMixin
from django_hookflow.admin.page import page_of
from django_hookflow.conf import options
from django_hookflow.models import WorkflowRun
from django_hookflow.wording import moment

if TYPE_CHECKING:
    Mixed = admin.ModelAdmin[WorkflowRun]
    RunsAdmin = admin.ModelAdmin[WorkflowRun]
else:
    Mixed, RunsAdmin = object, admin.ModelAdmin

__all__ = ["WorkflowRunAdmin", "WorkflowRunAdminMixin"]

_BREAK = SafeString("<wbr>")
TEMPLATES = "admin/django_hookflow/workflowrun"


class WorkflowRunAdminMixin(Mixed):
    """Everything of :class:`WorkflowRunAdmin`, for another ``ModelAdmin`` than Django's."""

    list_display = ("run_id", "workflow", "status_label", "why", "created", "age", "steps_done")
    list_filter = (StatusFilter, WorkflowFilter, BlockedFilter)
    list_per_page = 50
    sortable_by = ("run_id", "created")
    ordering = ("-id",)
    search_fields = ("run_id__startswith",)
    search_help_text = _("The run's id or its beginning, or the key that log lines have.")
    show_full_result_count = False
    paginator = BoundedPaginator
    actions = ("cancel_selected", "pause_selected", "resume_selected", "retry_selected")
    if hasattr(admin, "ShowFacets"):  # Django 5.0
        show_facets = admin.ShowFacets.NEVER  # each number would be a count of the whole table

    class Media:
        css = {"all": ("django_hookflow/admin.css",)}

    # --- who may do what

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: runs are started by ``trigger``."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: a run is changed through its methods only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: rows belong to the journal."""
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel runs."""
        return self._may(request, CANCEL)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Whether the user may pause and resume runs."""
        return self._may(request, PAUSE)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether the user may retry runs."""
        return self._may(request, RETRY)

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whether the user may read data, results and messages of errors."""
        return request.user.has_perm(f"{self.opts.app_label}.view_payload")

    def _may(self, request: HttpRequest, verb: Verb) -> bool:
        return request.user.has_perm(verb.permission(self.opts.app_label))

    # --- the list

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowRun]:
        """Runs without their values, which may be large."""
        runs = super().get_queryset(request).using(options.database)
        lean: QuerySet[WorkflowRun] = runs.defer("data", "result", "state", "waits")
        return lean

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        """The list of the ``ModelAdmin``, with our rows."""
        return type("RunChangeList", (RunChangeListMixin, super().get_changelist(request)), {})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Runs whose id begins so, by its index, or the one with this key."""
        term = search_term.strip()
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return (queryset.filter(run_id__startswith=term) if term else queryset), False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Whether the address may ask for it: only for what is a filter.

        Any column could be asked for otherwise: ``?data__startswith=`` would give a value
        away, letter by letter, to who may not see it.
        """
        named = {getattr(entry, "parameter_name", entry) for entry in self.list_filter}
        return lookup in named or any(
            isinstance(name, str) and lookup.startswith(f"{name}__") for name in named
        )

    @admin.display(description=_("workflow"))
    def workflow(self, run: WorkflowRun) -> SafeString:
        """Not sortable: no index has it."""
        parts = ((part,) for part in run.workflow_id.split("."))
        # A dotted path is broken at its dots.
        name = format_html_join(format_html(".{}", _BREAK), "{}", parts)
        return format_html('<span class="hookflow-id">{}</span>', name)

    @admin.display(description=_("status"))
    def status_label(self, run: WorkflowRun) -> SafeString:
        """Coloured, and told in words."""
        status = run.status_now
        return format_html(
            '<span class="hookflow-status hookflow-{}">{}</span>',
            status,
            STATUS_LABELS.get(status, status),
        )

    @admin.display(description=_("why"))
    def why(self, run: Any) -> SafeString:
        """One sentence."""
        text = Truncator(run.listed.sentence).chars(160)
        return format_html('<span class="hookflow-why">{}</span>', text)

    @admin.display(description=_("created"), ordering="id")
    def created(self, run: WorkflowRun) -> str:
        """Keys are in the order of time."""
        return moment(run.created_at)

    @admin.display(description=_("age"))
    def age(self, run: Any) -> str:
        """Since it was created."""
        return str(run.listed.age)

    @admin.display(description=_("steps done"))
    def steps_done(self, run: Any) -> int:
        """Completed and not superseded."""
        return int(run.listed.steps_done)

    # --- one run

    def get_urls(self) -> list[URLPattern]:
        """Django's, and one for each verb."""
        own = [
            path(
                f"<uuid:key>/{verb.name}/",
                self.admin_site.admin_view(self._verb_view),
                {"verb": verb},
                name=f"{self.opts.app_label}_{self.opts.model_name}_{verb.name}",
            )
            for verb in VERBS
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The run's page; there is nothing to post to it."""
        run = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if run is None:
            return self._gone(request, object_id)
        verbs = [verb for verb in VERBS if self._may(request, verb) and verb.fits(run)]
        return self._page(request, "run.html", {
            **page_of(request, run, may_read=self.has_payload_permission(request)),
            "original": run,
            "subtitle": run.run_id,
            "crumb": str(run),
            "status_label": self.status_label(run),
            "verbs": [(verb, self._url(verb.name, run.pk)) for verb in verbs],
            "history_url": self._url("history", run.pk),
            **(extra_context or {}),
        })  # fmt: skip

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        shared = {
            **self.admin_site.each_context(request),
            "title": capfirst(self.opts.verbose_name),
            "opts": self.opts,
            "media": self.media["css"],
            "crumbs_are_a_list": django.VERSION >= (6, 1),
        }
        return TemplateResponse(request, f"{TEMPLATES}/{name}", shared | context)

    def _gone(self, request: HttpRequest, key: str) -> HttpResponse:
        text = _("There is no workflow run “%(key)s”; it may have been pruned.") % {"key": key}
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(self._url("changelist"))

    def _url(self, name: str, *args: Any) -> str:
        place = f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}"
        return reverse(place, args=args, current_app=self.admin_site.name)

    # --- cancel, pause, resume and retry

    @admin.action(permissions=["cancel"], description=_("Cancel selected runs"))
    def cancel_selected(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> HttpResponse | None:
        """Ask, then do."""
        return self._selected(request, queryset, CANCEL)

    @admin.action(permissions=["pause"], description=_("Pause selected runs"))
    def pause_selected(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> HttpResponse | None:
        """Ask, then do."""
        return self._selected(request, queryset, PAUSE)

    @admin.action(permissions=["pause"], description=_("Resume selected runs"))
    def resume_selected(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> HttpResponse | None:
        """Ask, then do."""
        return self._selected(request, queryset, RESUME)

    @admin.action(permissions=["retry"], description=_("Retry selected runs"))
    def retry_selected(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun]
    ) -> HttpResponse | None:
        """Ask, then do."""
        return self._selected(request, queryset, RETRY)

    def _selected(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], verb: Verb
    ) -> HttpResponse | None:
        if request.POST.get("confirmed"):
            # Those that were asked about, also where the list's filter lets them through no more.
            keys = request.POST.getlist(ACTION_CHECKBOX_NAME)[:AT_ONCE]
            act(self, request, verb, self.get_queryset(request).filter(pk__in=keys))
            return None
        runs = list(queryset[: AT_ONCE + 1])
        if len(runs) > AT_ONCE:
            self.message_user(request, too_many(), messages.ERROR)
            return None
        return self._ask(request, verb, runs, back=request.get_full_path())

    def _verb_view(self, request: HttpRequest, key: UUID, verb: Verb) -> HttpResponse:
        run = self.get_object(request, str(key))
        if not (self.has_view_permission(request, run) and self._may(request, verb)):
            raise PermissionDenied
        if run is None:
            return self._gone(request, str(key))
        back = self._url("change", run.pk)
        if request.method == "POST":
            act(self, request, verb, [run])
            return HttpResponseRedirect(back)
        return self._ask(request, verb, [run], back=back)

    def _ask(
        self, request: HttpRequest, verb: Verb, runs: list[WorkflowRun], *, back: str
    ) -> HttpResponse:
        return self._page(request, "confirm.html", {
            "title": verb.button,
            "crumb": verb.button,
            "verb": verb,
            "question": verb.question % {"count": len(runs)},
            "runs": runs,
            "checkbox": ACTION_CHECKBOX_NAME,
            "action": request.POST.get("action", ""),
            "back": back,
        })  # fmt: skip


@admin.register(WorkflowRun)
class WorkflowRunAdmin(WorkflowRunAdminMixin, RunsAdmin):
    """Runs in Django's own admin."""
