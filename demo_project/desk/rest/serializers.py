"""What REST shows and takes."""

from datetime import date
from typing import Any, ClassVar, TypedDict

from rest_framework import serializers

from demo_project.desk.journey import MOST_LEGS
from demo_project.desk.models import Airport, Itinerary, Leg


class LegData(TypedDict):
    """A leg that has been validated."""

    origin: Airport
    destination: Airport
    departs_on: date


class AirportSerializer(serializers.ModelSerializer[Airport]):
    """An airport."""

    class Meta:
        model = Airport
        fields: ClassVar[list[str]] = ["iata", "icao", "name", "city", "country", "timezone"]


class LegSerializer(serializers.ModelSerializer[Leg]):
    """A flight between two airports, which are named by their IATA codes."""

    origin = serializers.SlugRelatedField(slug_field="iata", queryset=Airport.objects.all(), help_text="IATA code")
    destination = serializers.SlugRelatedField(
        slug_field="iata", queryset=Airport.objects.all(), help_text="IATA code"
    )

    class Meta:
        model = Leg
        fields: ClassVar[list[str]] = ["origin", "destination", "departs_on"]

    def validate(self, attrs: LegData) -> LegData:
        """Refuse a leg that leads nowhere."""
        if attrs["origin"] == attrs["destination"]:
            raise serializers.ValidationError(f"A leg goes from {attrs['origin'].iata} to itself.")
        return attrs


class ItinerarySerializer(serializers.ModelSerializer[Itinerary]):
    """An itinerary with its legs, which stay as they were made."""

    owner = serializers.ReadOnlyField(source="owner.username")
    legs = LegSerializer(many=True, allow_empty=False, max_length=MOST_LEGS)  # type: ignore[call-arg]

    class Meta:
        model = Itinerary
        fields: ClassVar[list[str]] = ["id", "title", "owner", "created_at", "legs"]

    def create(self, validated_data: dict[str, Any]) -> Itinerary:
        """Make the itinerary and its legs, or nothing."""
        stops = [(leg["origin"], leg["destination"], leg["departs_on"]) for leg in validated_data["legs"]]
        owner_id = self.context["request"].user.pk
        return Itinerary.objects.plan(owner_id=owner_id, title=validated_data["title"], stops=stops)


class TitleSerializer(ItinerarySerializer):
    """An itinerary of which the title can be changed."""

    legs = LegSerializer(many=True, read_only=True)
