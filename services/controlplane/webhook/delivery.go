package webhook

import (
	"errors"
	"net/http"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/event"
)

// once are the headers that decide something: who has two of one of them means
// somebody else to read the other.
var once = []string{
	headerGitHub, headerGitLab, headerBasic, headerID, headerTimestamp, headerSignature,
	"Content-Type", "Content-Length", "X-Github-Event", "X-Github-Delivery", "X-Gitlab-Event", "X-Gitlab-Event-Uuid", "Idempotency-Key",
}

// kept are the headers that are stored with a delivery. None of them proves
// anything.
var kept = []string{
	"Content-Type", "User-Agent", "X-Request-Id",
	"X-Github-Event", "X-Github-Delivery", "X-Github-Hook-Id", "X-Github-Hook-Installation-Target-Id", "X-Github-Hook-Installation-Target-Type",
	"X-Gitlab-Event", "X-Gitlab-Event-Uuid", "X-Gitlab-Webhook-Uuid", "X-Gitlab-Instance", "Idempotency-Key",
	headerID, headerTimestamp,
}

const maxHeader = 256

func keep(h http.Header) map[string]string {
	out := map[string]string{}
	for _, name := range kept {
		if v := h.Get(name); v != "" && len(v) <= maxHeader && printable(v) {
			out[name] = v
		}
	}
	return out
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// identify reads event and delivery id of a request that was verified: from
// headers where the provider sends them there, else from the body.
func identify(p controlplane.Provider, h http.Header, body []byte) (name string, id controlplane.DeliveryID, err error) {
	var text string
	switch p {
	case controlplane.GitHub:
		name, text = h.Get("X-Github-Event"), h.Get("X-Github-Delivery")
	case controlplane.GitLab:
		// The UUID is shared by hooks that other hooks caused; the key is not, and
		// a signed delivery has it as its signed id.
		name, text = h.Get("X-Gitlab-Event"), h.Get(headerID)
		if text == "" {
			text = h.Get("Idempotency-Key")
		}
		if text == "" {
			text = h.Get("X-Gitlab-Event-Uuid")
		}
	case controlplane.AzureDevOps:
		in, err := event.ReadEnvelope(p, body)
		if err != nil {
			return "", "", err
		}
		name, text = in.Event, in.ID
	default:
		in, err := event.ReadEnvelope(p, body)
		if err != nil {
			return "", "", err
		}
		name, text = in.Event, h.Get(headerID)
	}
	if id, err = controlplane.ParseDeliveryID(text); err != nil {
		return "", "", err
	}
	needed := p != controlplane.Generic && p != controlplane.Salesforce
	if needed && name == "" || len(name) > 100 || !printable(name) {
		return "", "", errors.New("no event")
	}
	return name, id, nil
}
