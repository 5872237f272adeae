from django.db import models


class Item(models.Model):
    text = models.TextField()

    def __str__(self) -> str:
        return f"item {self.pk}"


class Answer(models.Model):
    item = models.ForeignKey(Item, on_delete=models.CASCADE)
    choice = models.PositiveSmallIntegerField()
    explanation = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"answer {self.pk}"
