package hatchet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hatchet-dev/hatchet/cmd/hatchet-admin/cli/seed"
	"github.com/hatchet-dev/hatchet/cmd/hatchet-migrate/migrate"
	"github.com/hatchet-dev/hatchet/pkg/auth/token"
	"github.com/hatchet-dev/hatchet/pkg/config/loader"
	"github.com/hatchet-dev/hatchet/pkg/encryption"
	"github.com/hatchet-dev/hatchet/pkg/repository"
	"github.com/hatchet-dev/hatchet/pkg/repository/sqlcv1"
	"github.com/jackc/pgx/v5"
)

// Credentials are for an engine that runs as a service of its own: its keys,
// and the token that it will take once Prepare has told its database.
type Credentials struct {
	Keys
	Cookies string // SERVER_AUTH_COOKIE_SECRETS
	Token   string
}

// tenant is the one that Hatchet makes in an empty database.
var tenant = uuid.MustParse("707d0855-80ab-4e1f-a156-f1c4546cbf52")

// NewCredentials makes credentials without an engine. The URL and the address
// are the engine's SERVER_URL and SERVER_GRPC_BROADCAST_ADDRESS: the token holds
// them, and is good for no other.
func NewCredentials(ctx context.Context, serverURL, broadcast string) (Credentials, error) {
	keys, err := NewKeys()
	if err != nil {
		return Credentials{}, err
	}
	service, err := encryption.NewLocalEncryption([]byte(keys.Master), []byte(keys.PrivateJWT), []byte(keys.PublicJWT))
	if err != nil {
		return Credentials{}, fmt.Errorf("use the workflow engine's keys: %w", err)
	}
	manager, err := token.NewJWTManager(service, unstored{}, &token.TokenOpts{
		Issuer: serverURL, Audience: serverURL, ServerURL: serverURL, GRPCBroadcastAddress: broadcast,
	})
	if err != nil {
		return Credentials{}, fmt.Errorf("use the workflow engine's keys: %w", err)
	}
	expires := time.Now().Add(tokenLife)
	made, err := manager.GenerateTenantToken(ctx, tenant, tokenName, false, &expires)
	if err != nil {
		return Credentials{}, fmt.Errorf("make a token for the workflow engine: %w", err)
	}
	// Two of them, 16 bytes each: one to sign, one to encrypt.
	return Credentials{Keys: keys, Cookies: rand.Text()[:16] + " " + rand.Text()[:16], Token: made.Token}, nil
}

const tokenName = "skep"

// unstored takes the place of a database that is not there yet.
type unstored struct{ repository.APITokenRepository }

func (unstored) CreateAPIToken(context.Context, *repository.CreateAPITokenOpts) (*sqlcv1.APIToken, error) {
	return nil, nil
}

// Prepare migrates the database of an engine elsewhere and makes the token of
// NewCredentials good. It may be done again. It changes the environment, and
// makes os.Stdout what os.Stderr is.
func Prepare(ctx context.Context, databaseURL, text string) (err error) {
	made, err := claims(text)
	if err != nil {
		return err
	}
	os.Stdout = os.Stderr // Hatchet prints on it
	for name, value := range map[string]string{"DATABASE_URL": databaseURL, "DATABASE_LOGGER_LEVEL": "error"} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := migrate.RunMigrations(ctx, migrate.WithDatabaseURL(databaseURL)); err != nil {
		return fmt.Errorf("migrate the workflow engine's database: %w", err)
	}
	data, err := loader.NewConfigLoader("").InitDataLayer()
	if err != nil {
		return fmt.Errorf("open the workflow engine's database: %w", err)
	}
	defer func() { err = errors.Join(err, data.Disconnect()) }()
	if err := seed.SeedDatabase(data); err != nil {
		return fmt.Errorf("fill the workflow engine's database: %w", err)
	}
	switch _, err := data.V1.APIToken().GetAPITokenById(ctx, made.ID); {
	case err == nil:
		return nil
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("look for the workflow engine's token: %w", err)
	}
	name := tokenName
	_, err = data.V1.APIToken().CreateAPIToken(ctx, &repository.CreateAPITokenOpts{
		ID: made.ID, TenantId: &made.Tenant, Name: &name, ExpiresAt: time.Unix(made.Expires, 0),
	})
	if err != nil {
		return fmt.Errorf("make the workflow engine's token good: %w", err)
	}
	return nil
}

type tokenClaims struct {
	ID      uuid.UUID `json:"token_id"`
	Tenant  uuid.UUID `json:"sub"`
	Expires int64     `json:"exp"` // Unix time
}

// claims reads a token without checking it, which the engine does.
func claims(text string) (tokenClaims, error) {
	var c tokenClaims
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 {
		return c, errNoToken
	}
	content, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(content, &c) != nil || c.ID == uuid.Nil || c.Tenant == uuid.Nil || c.Expires == 0 {
		return c, errNoToken
	}
	return c, nil
}

var errNoToken = errors.New("the workflow engine's token is none: make one with skep-server hatchet credentials")
