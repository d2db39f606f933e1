package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"skep/services/controlplane"
)

// EventFolder is where a task finds the delivery that started it, as files: its
// body, byte for byte, and delivery.json, which says what it is. A stranger may
// have written the body, so it is in no command and in no variable.
const EventFolder = "/run/event"

// delivered are the files of the delivery that started the run.
func (t *task) delivered(ctx context.Context) (map[string][]byte, error) {
	if t.input.Delivery == 0 {
		return nil, nil
	}
	d, err := t.w.Tasks.Delivery(ctx, t.input.Delivery)
	if errors.Is(err, controlplane.ErrNotFound) {
		return nil, &failure{err: fmt.Errorf("delivery %d, which started the task, is gone", t.input.Delivery)}
	}
	if err != nil {
		return nil, err
	}
	about, err := json.Marshal(struct {
		Provider controlplane.Provider   `json:"provider"`
		Delivery controlplane.DeliveryID `json:"delivery"`
		Event    string                  `json:"event"`
		Received time.Time               `json:"received"`
	}{d.Provider, d.Delivery, d.Event, d.Received.UTC()})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"delivery.json": about, "body": d.Body}, nil
}
