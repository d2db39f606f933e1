package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"skep/services/controlplane"
)

// caller is who calls, for as long as the call lasts.
type caller struct {
	token controlplane.Token
	shown string
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

func actor(t controlplane.Token) string { return "token/" + string(t.Name) }

// What the audit log says came of a call.
const (
	outcomeDone   = "done"
	outcomeDenied = "denied"
	outcomeFailed = "failed"
)

const auditTimeout = 5 * time.Second

// authorize lets a call through if its token has the operation's scope, and
// writes down what came of it if it could change something.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	shown, err := bearer(r)
	var token controlplane.Token
	if err == nil {
		token, err = a.authenticate(ctx.Context(), r, shown)
	}
	if err != nil {
		a.deny(ctx, err)
		return
	}
	exchangeOf(ctx.Context()).actor = actor(token)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		// Also when what follows panics.
		defer func() { a.audit(ctx, r, token) }()
	}
	if scope := scopeOf(ctx.Operation()); !token.May(scope) {
		ctx.SetHeader("WWW-Authenticate", fmt.Sprintf(`Bearer realm="skep", error="insufficient_scope", scope=%q`, scope))
		_ = huma.WriteErr(a.huma, ctx, http.StatusForbidden, fmt.Sprintf("The token lacks the scope %s.", scope))
		return
	}
	next(huma.WithValue(ctx, callerKey{}, caller{token, shown}))
}

var (
	errNoToken  = errors.New("no token")
	errTwoOfOne = errors.New("two tokens")
)

// limited is a caller that has to wait.
type limited struct{ wait time.Duration }

func (limited) Error() string { return "too many failures" }

// protocolToken is how a browser's WebSocket, which sends no Authorization, may
// send a token: as one of the protocols that it offers.
const protocolToken = "bearer."

// bearer finds the request's token (RFC 6750, 2.1).
func bearer(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	switch len(values) {
	case 0:
		if isWebSocket(r) {
			return protocolBearer(r)
		}
		return "", errNoToken
	case 1:
	default:
		return "", errTwoOfOne
	}
	kind, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(kind, "bearer") || token == "" {
		return "", errNoToken
	}
	return token, nil
}

func protocolBearer(r *http.Request) (string, error) {
	var found []string
	for _, p := range strings.Split(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if token, ok := strings.CutPrefix(strings.TrimSpace(p), protocolToken); ok {
			found = append(found, token)
		}
	}
	switch len(found) {
	case 0:
		return "", errNoToken
	case 1:
		return found[0], nil
	}
	return "", errTwoOfOne
}

func (a *API) authenticate(ctx context.Context, r *http.Request, shown string) (controlplane.Token, error) {
	from := a.remote(r)
	if wait := a.fails.wait(from); wait > 0 {
		a.metrics.refused.WithLabelValues(refusedLimited).Inc()
		return controlplane.Token{}, limited{wait}
	}
	token, err := a.options.Store.Authenticate(ctx, shown)
	if errors.Is(err, controlplane.ErrDenied) {
		a.metrics.refused.WithLabelValues(refusedToken).Inc()
		a.fails.fail(from)
		a.log.WarnContext(ctx, "authentication failed", "remote", from)
	}
	return token, err
}

func (a *API) deny(ctx huma.Context, err error) {
	status, detail, challenge := http.StatusUnauthorized, "Send a token: Authorization: Bearer skep_...", `Bearer realm="skep"`
	var slow limited
	switch {
	case errors.Is(err, errNoToken):
		a.metrics.refused.WithLabelValues(refusedNone).Inc()
	case errors.Is(err, errTwoOfOne):
		status, detail, challenge = http.StatusBadRequest, "There is more than one token.", ""
	case errors.As(err, &slow):
		status, detail, challenge = http.StatusTooManyRequests, "Too many tokens from this address were wrong.", ""
		ctx.SetHeader("Retry-After", strconv.Itoa(int(slow.wait/time.Second)+1))
	case errors.Is(err, controlplane.ErrDenied):
		detail, challenge = "The token is unknown, revoked or expired.", `Bearer realm="skep", error="invalid_token"`
	default:
		a.log.ErrorContext(ctx.Context(), "authenticate", "error", err)
		status, detail, challenge = http.StatusServiceUnavailable, "Tokens cannot be looked up now.", ""
		ctx.SetHeader("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if challenge != "" {
		ctx.SetHeader("WWW-Authenticate", challenge)
	}
	_ = huma.WriteErr(a.huma, ctx, status, detail) // it logs what it could not write
}

var parameter = regexp.MustCompile(`\{([a-z]+)\}`)

// audit writes a row about a call of somebody who is known. Strangers are in
// the log and the metrics: they shall not fill a table.
func (a *API) audit(ctx huma.Context, r *http.Request, token controlplane.Token) {
	var target []string
	for _, name := range parameter.FindAllStringSubmatch(ctx.Operation().Path, -1) {
		target = append(target, r.PathValue(name[1]))
	}
	outcome := outcomeFailed
	switch status := ctx.Status(); {
	case status/100 == 2:
		outcome = outcomeDone
	case status == http.StatusForbidden:
		outcome = outcomeDenied
	}
	// What was done is written down although the caller may be gone.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx.Context()), auditTimeout)
	defer cancel()
	err := a.options.Store.Audit(late, controlplane.Audit{
		Actor: actor(token), Action: ctx.Operation().OperationID, Target: strings.Join(target, "/"),
		Outcome: outcome, Request: RequestID(ctx.Context()),
	})
	if err != nil {
		a.metrics.unaudited.Inc()
		a.log.ErrorContext(late, "no audit row", "action", ctx.Operation().OperationID, "outcome", outcome, "error", err)
	}
}
