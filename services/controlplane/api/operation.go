package api

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"skep/services/controlplane"
)

// operation is what is declared beside a handler.
type operation struct {
	// id is the audit log's word for it too: project.put.
	id      string
	method  string
	path    string // below Prefix
	summary string
	scope   controlplane.Scope
	status  int           // of success; 200 if 0
	errors  []int         // besides those that any operation may answer
	timeout time.Duration // of all of it; usual if 0, none for a stream
	body    int64         // bytes; maxBody if 0
	content map[string]*huma.Response
}

const (
	usual   = 15 * time.Second
	forever = time.Duration(-1)
	// grace is for writing the answer once there is one.
	grace   = 30 * time.Second
	maxBody = 1 << 20
)

// keyTimeout is where an operation's metadata has its timeout.
const keyTimeout = "timeout"

// scheme is the OpenAPI document's name for tokens.
const scheme = "token"

// register makes a route of a handler. The scope stands in the OpenAPI
// document, and authorize reads it there: there is no second place for it.
func register[I, O any](a *API, op operation, handler func(context.Context, *I) (*O, error)) {
	if op.timeout == 0 {
		op.timeout = usual
	}
	if op.body == 0 {
		op.body = maxBody
	}
	tag, _, _ := strings.Cut(op.id, ".")
	o := huma.Operation{
		OperationID: op.id, Method: op.method, Path: Prefix + op.path, Summary: op.summary, Tags: []string{tag},
		DefaultStatus: op.status, MaxBodyBytes: op.body, Responses: op.content,
		Errors:   append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}, op.errors...),
		Metadata: map[string]any{keyTimeout: op.timeout},
		// A body that is late ends the request, so what follows it counts too.
		BodyReadTimeout: max(op.timeout, usual),
		// Role names are part of a bearer scheme's requirement since OpenAPI 3.1.
		Security: []map[string][]string{{scheme: {string(op.scope)}}},
	}
	if strings.Contains(op.path, "{") {
		o.Errors = append(o.Errors, http.StatusNotFound)
	}
	if _, ok := reflect.TypeFor[I]().FieldByName("Body"); ok {
		o.Errors = append(o.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	huma.Register(a.huma, o, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, a.answer(ctx, err)
		}
		return out, nil
	})
}

// scopeOf is what a token needs for an operation.
func scopeOf(op *huma.Operation) controlplane.Scope {
	for _, requirement := range op.Security {
		if roles := requirement[scheme]; len(roles) == 1 {
			return controlplane.Scope(roles[0])
		}
	}
	return controlplane.ScopeAdmin // whoever forgets to say so
}

// plain refuses what nobody here decodes.
func (a *API) plain(ctx huma.Context, next func(huma.Context)) {
	if ctx.Header("Content-Encoding") != "" {
		_ = huma.WriteErr(a.huma, ctx, http.StatusUnsupportedMediaType, "Send the body without Content-Encoding.")
		return
	}
	next(ctx)
}

// limits bounds how long an operation may take.
func (a *API) limits(ctx huma.Context, next func(huma.Context)) {
	timeout, _ := ctx.Operation().Metadata[keyTimeout].(time.Duration)
	if timeout <= 0 {
		next(ctx)
		return
	}
	_, w := humago.Unwrap(ctx)
	// A recorder of a test has no deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + grace))
	limited, cancel := context.WithTimeout(ctx.Context(), timeout)
	defer cancel()
	next(huma.WithContext(ctx, limited))
}

// Reply is an answer of one value.
type Reply[T any] struct{ Body T }

func reply[T any](v T, err error) (*Reply[T], error) {
	if err != nil {
		return nil, err
	}
	return &Reply[T]{Body: v}, nil
}

// nothing is the input of an operation that takes none, or an answer without a
// body.
type nothing struct{}

func done(err error) (*nothing, error) {
	if err != nil {
		return nil, err
	}
	return &nothing{}, nil
}

// ByName is the path of what has a name.
type ByName struct {
	Name controlplane.Name `path:"name" maxLength:"63" pattern:"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" patternDescription:"a DNS label" doc:"What the operator calls it"`
}

// ByProvider is the path of what has a name at a provider.
type ByProvider struct {
	Provider controlplane.Provider `path:"provider" enum:"azuredevops,generic,github,gitlab,salesforce"`
	ByName
}

func (p ByProvider) String() string { return string(p.Provider) + "/" + string(p.Name) }
