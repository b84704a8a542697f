"""The desk in the admin."""

from typing import TYPE_CHECKING

from django.contrib import admin

from demo_project.desk.models import Airport, Booking, Itinerary, Leg

if TYPE_CHECKING:
    AirportModelAdmin = admin.ModelAdmin[Airport]
    BookingModelAdmin = admin.ModelAdmin[Booking]
    ItineraryModelAdmin = admin.ModelAdmin[Itinerary]
    LegTabularInline = admin.TabularInline[Leg, Itinerary]
else:
    # Django's admin classes take a type argument in the stubs only.
    AirportModelAdmin = BookingModelAdmin = ItineraryModelAdmin = admin.ModelAdmin
    LegTabularInline = admin.TabularInline


@admin.register(Airport)
class AirportAdmin(AirportModelAdmin):
    """Search among all airports."""

    list_display = ["code", "name", "city", "subdivision", "country", "elevation_ft"]
    list_filter = ["country"]
    search_fields = ["=iata", "=icao", "name", "city"]
    # Counting all rows for every search is the slowest part of it.
    show_full_result_count = False


class LegInline(LegTabularInline):
    """Edit the legs where their itinerary is."""

    model = Leg
    extra = 0
    autocomplete_fields = ["origin", "destination"]


@admin.register(Itinerary)
class ItineraryAdmin(ItineraryModelAdmin):
    """See itineraries with their legs."""

    list_display = ["title", "owner", "created_at"]
    list_select_related = ["owner"]
    search_fields = ["title", "owner__username"]
    date_hierarchy = "created_at"
    inlines = [LegInline]


@admin.register(Booking)
class BookingAdmin(BookingModelAdmin):
    """See bookings."""

    list_display = ["reference", "traveller", "itinerary", "owner", "confirmed_by", "created_at"]
    list_select_related = ["itinerary", "owner", "confirmed_by"]
    search_fields = ["reference", "traveller", "itinerary__title", "owner__username"]
    readonly_fields = ["reference", "created_at"]
    autocomplete_fields = ["itinerary"]
