package event

import (
	"errors"
	"fmt"
	"strconv"

	"skep/services/controlplane"
)

// Envelope is what the body says of the delivery itself, for the providers
// that say it there and not in headers.
type Envelope struct {
	Event string
	ID    string // empty where a header has it
}

// ReadEnvelope reads a body that was verified.
func ReadEnvelope(p controlplane.Provider, body []byte) (Envelope, error) {
	if p == controlplane.AzureDevOps {
		return azureEnvelope(body)
	}
	// Standard Webhooks asks for a type, and others sign as it does without one.
	var in struct {
		Type string `json:"type"`
	}
	if err := decode(body, &in); err != nil {
		return Envelope{}, err
	}
	name, err := text("type", in.Type)
	return Envelope{Event: name}, err
}

// azureEnvelope names a delivery by the subscription and its count of
// notifications: a retry repeats both. Versions that do not count have the
// event's id.
func azureEnvelope(body []byte) (Envelope, error) {
	var in struct {
		SubscriptionID string `json:"subscriptionId"`
		NotificationID int64  `json:"notificationId"`
		ID             string `json:"id"`
		EventType      string `json:"eventType"`
	}
	if err := decode(body, &in); err != nil {
		return Envelope{}, err
	}
	name, err := text("eventType", in.EventType)
	if err != nil {
		return Envelope{}, err
	}
	switch {
	case name == "":
		return Envelope{}, errors.New("no eventType")
	case in.SubscriptionID == "":
		return Envelope{}, errors.New("no subscriptionId")
	case in.NotificationID > 0:
		return Envelope{name, in.SubscriptionID + "/" + strconv.FormatInt(in.NotificationID, 10)}, nil
	case in.ID != "":
		return Envelope{name, in.SubscriptionID + "/" + in.ID}, nil
	}
	return Envelope{}, fmt.Errorf("neither notificationId nor id")
}
