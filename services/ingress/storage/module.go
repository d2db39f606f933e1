// Package storage is a Caddy storage module that keeps certificates, keys and
// locks in PostgreSQL, so that several ingresses share them. What an ingress
// has read stays on its own disk, and answers while the database is away.
package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

func init() { caddy.RegisterModule(Postgres{}) }

// Postgres configures the storage. Placeholders such as {env.NAME} and
// {file.PATH} are replaced in every field.
type Postgres struct {
	// DSN is where the database is, as a URL or in key=value form. What it
	// does not say comes from the variables of libpq, such as PGSSLMODE.
	DSN string `json:"dsn,omitempty"`
	// DSNFile holds the DSN instead, so that no configuration shows the password.
	DSNFile string `json:"dsn_file,omitempty"`
	// Copy is the folder of the local copy; by default it is postgres in
	// Caddy's data folder.
	Copy string `json:"copy,omitempty"`

	shared *identity
	store  *store
}

// identity is what makes two configurations use one store.
type identity struct{ dsn, copy string }

// stores outlive a configuration: what the last one still has under way, such
// as a lock that it holds, goes on in the next.
var stores = caddy.NewUsagePool()

// CaddyModule describes the module to Caddy.
func (Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.postgres", New: func() caddy.Module { return new(Postgres) }}
}

// Provision reads the settings. It does not wait for the database.
func (p *Postgres) Provision(ctx caddy.Context) error {
	id, err := p.identify()
	if err != nil {
		return err
	}
	value, _, err := stores.LoadOrNew(id, func() (caddy.Destructor, error) {
		return open(context.WithoutCancel(ctx), id.dsn, id.copy, defaultPace, func() *zap.Logger { return caddy.Log().Named("caddy.storage.postgres") })
	})
	if err != nil {
		return err
	}
	p.shared, p.store = &id, value.(*store)
	return nil
}

// Cleanup closes the store unless another configuration uses it.
func (p *Postgres) Cleanup() error {
	if p.shared == nil {
		return nil
	}
	_, err := stores.Delete(*p.shared)
	return err
}

// CertMagicStorage returns the storage.
func (p *Postgres) CertMagicStorage() (certmagic.Storage, error) { return p.store, nil }

func (p *Postgres) identify() (identity, error) {
	fields := map[string]string{"dsn": p.DSN, "dsn_file": p.DSNFile, "copy": p.Copy}
	replacer := caddy.NewReplacer()
	for name, text := range fields {
		value, err := replacer.ReplaceOrErr(text, true, true)
		if err != nil {
			return identity{}, fmt.Errorf("%s: %w", name, err)
		}
		fields[name] = value
	}
	id := identity{dsn: fields["dsn"], copy: fields["copy"]}
	switch {
	case id.dsn != "" && fields["dsn_file"] != "":
		return identity{}, errors.New("set dsn or dsn_file, not both")
	case fields["dsn_file"] != "":
		content, err := os.ReadFile(fields["dsn_file"])
		if err != nil {
			return identity{}, fmt.Errorf("dsn_file: %w", err)
		}
		id.dsn = string(content)
	}
	if id.dsn = strings.TrimSpace(id.dsn); id.dsn == "" {
		return identity{}, errors.New("set dsn or dsn_file to the address of a database, such as postgres://user:password@host/database")
	}
	if id.copy == "" {
		id.copy = filepath.Join(caddy.AppDataDir(), "postgres")
	}
	return id, nil
}

// UnmarshalCaddyfile reads
//
//	storage postgres {
//		dsn      <address>
//		dsn_file <path>
//		copy     <folder>
//	}
func (p *Postgres) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	fields := map[string]*string{"dsn": &p.DSN, "dsn_file": &p.DSNFile, "copy": &p.Copy}
	for d.NextBlock(0) {
		name := d.Val()
		field, ok := fields[name]
		switch {
		case !ok:
			return d.Errf("storage postgres has no %q: it has dsn, dsn_file and copy", name)
		case *field != "":
			return d.Errf("%s is there twice", name)
		case !d.AllArgs(field):
			return d.Errf("%s takes one value", name)
		}
	}
	if (p.DSN == "") == (p.DSNFile == "") {
		return d.Err("storage postgres needs dsn or dsn_file, one of them")
	}
	return nil
}

var (
	_ caddy.Provisioner      = (*Postgres)(nil)
	_ caddy.CleanerUpper     = (*Postgres)(nil)
	_ caddy.StorageConverter = (*Postgres)(nil)
	_ caddyfile.Unmarshaler  = (*Postgres)(nil)
)
