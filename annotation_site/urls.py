from django.contrib import admin
from django.urls import include, path

handler400 = "apps.annotation.views.errors.bad_request"
handler403 = "apps.annotation.views.errors.permission_denied"
handler404 = "apps.annotation.views.errors.not_found"
handler500 = "apps.annotation.views.errors.server_error"

urlpatterns = [
    path("", include("apps.desk.urls")),
    path("", include("apps.annotation.urls")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("apps.api.urls")),
]
