from annotation_site.urls import handler400, handler403, handler404, handler500
from annotation_site.urls import urlpatterns as ours
from benchmarks.bare_site.views import urlpatterns as bare

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]

urlpatterns = [*bare, *ours]
