package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/danielgtaylor/huma/v2"
)

// Document is the OpenAPI document of this version, the same each time.
func Document() ([]byte, error) {
	a := &API{}
	if err := a.build(); err != nil {
		return nil, err
	}
	return a.document()
}

func configuration() huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Skep", Version: "1",
				Description: "The control plane. All calls but those for health, this document and webhooks take a bearer token, and each names the scope " +
					"that the token must have. Errors are problems as RFC 9457 says; their instance is the id that the log has of the request. " +
					"Webhooks are taken by POST at /api/v1/webhooks/{provider}/{source}, signed as the provider does.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					scheme: {Type: "http", Scheme: "bearer", Description: "Made by skep-server token create. The scopes are read (which all have), deploy, tasks, integrations and admin (which has all)."},
				},
			},
		},
		// The second is what problem+json ends with.
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{finish},
	}
}

func (a *API) document() ([]byte, error) {
	raw, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
