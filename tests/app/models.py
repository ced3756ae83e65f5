from django.db import models


class Effect(models.Model):
    """One execution of a step's body.

    Nothing in it is unique: a body that ran twice must be able to leave two rows.
    """

    run_id = models.CharField(max_length=128)
    step = models.CharField(max_length=200)
    note = models.TextField(blank=True)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.run_id} {self.step}"
