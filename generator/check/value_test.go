package check

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	names := map[verdict]string{harmless: "harmless", suspicious: "suspicious", random: "random", knownDefault: "known default"}
	for _, tt := range []struct {
		value string
		want  verdict
	}{
		{"", harmless},
		{"true", harmless}, {"No", harmless}, {"none", harmless}, {"required", harmless},
		{"0", harmless}, {"86400", harmless}, {"-1", harmless},
		{"24h", harmless}, {"1m30s", harmless}, {"7d", harmless}, {"90 days", harmless},
		{"/run/secrets/db", harmless}, {"./secrets", harmless}, {"/data", harmless}, {"/etc/ssl/private/server.pem", harmless},
		{"https://auth.example.com/token", harmless}, {"file:///run/secrets/x", harmless},
		{"vault.example.com", harmless}, {"vault.example.com:8200", harmless},
		{"{{HOMEPAGE_VAR_KEY}}", harmless}, {"$TOKEN", harmless}, {"${TOKEN}", harmless}, {"<your token>", harmless}, {"********", harmless}, {"xxxx", harmless},

		{"changeme", knownDefault}, {"Change-Me!", knownDefault}, {"CHANGE_ME_NOW", knownDefault}, {"password", knownDefault}, {"postgres", knownDefault},
		{"admin", knownDefault}, {"123456", knownDefault}, {"your_api_key_here", knownDefault}, {"your-token-here", knownDefault},
		{"web", knownDefault}, {"WEB", knownDefault},

		{"5f4dcc3b5aa765d61d8327deb882cf99", random},
		{"550e8400-e29b-41d4-a716-446655440000", random},
		{"kX9vQ2mZ7pL4wT8n", random}, {"Tr0ub4dor&3", random}, {"s3cR3tP4ss", suspicious},
		{"dGhpcyBpcyBub3QgYSBzZWNyZXQ=", random}, {"/9j4AAQSkZJRgABAQEASABIAAD2wBDAAMCAgMCAgMDAwMEAwME", random},
		{"$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG", random},

		{"blue", suspicious}, {"hunter", suspicious}, {"correcthorse", suspicious}, {"aaaaaaaaaaaaaaaaaaaaaaaa", suspicious}, {"1234567", suspicious},
	} {
		if got := judge(tt.value, "web"); got != tt.want {
			t.Errorf("judge(%q) is %s, want %s (%.2f bits a byte)", tt.value, names[got], names[tt.want], entropy(tt.value))
		}
	}
}

func TestSecretName(t *testing.T) {
	for _, name := range []string{
		"PASSWORD", "POSTGRES_PASSWORD", "SONARR__POSTGRES__PASSWORD", "dbPassword", "MYSQL_ROOT_PASSWD", "JWT_SECRET", "clientSecret", "AUTH_TOKEN",
		"API_KEY", "SONARR__AUTH__APIKEY", "X-Api-Key", "PRIVATE_KEY", "AWS_SECRET_ACCESS_KEY", "APP_KEY", "CREDENTIALS", "SMTP_PASS", "REDIS_PWD", "TOKENS",
		"api-token", "NEXTAUTH_SECRET", "PASSPHRASE",
	} {
		if !IsSecretName(name) {
			t.Errorf("%s is not seen", name)
		}
	}
	for _, name := range []string{
		"PASSWORD_FILE", "FILE__PASSWORD", "PASSWORD__FILE", "TOKEN_URL", "TOKENIZER", "TOKEN_TTL", "ACCESS_TOKEN_EXPIRE", "SECRET_NAME", "AWS_ACCESS_KEY_ID",
		"API_KEY_HEADER", "PASSWORD_MIN_LENGTH", "PUBLIC_KEY", "MONKEY", "PASSENGER", "COMPASS", "KEYBOARD", "POSTGRES_USER", "PATH", "SECRETS_DIR",
	} {
		if IsSecretName(name) {
			t.Errorf("%s is none", name)
		}
	}
}

// TestShapes holds one made-up token of each kind against the table. They are
// put together here, so that no scanner of repositories takes them for real.
func TestShapes(t *testing.T) {
	const letters, hex, upper = "kX9vQ2mZ7pL4wT8nR5yB3cD1eF6gH0jK2lM4nP7qS9tU1vW3xY5z", "5f4dcc3b5aa765d61d8327deb882cf99", "Q3EGTJ2WXYZ7ABCD"
	tokens := map[string][]string{
		"a private key":                     {"-----BEGIN " + "RSA PRIVATE KEY-----", "-----BEGIN " + "PRIVATE KEY-----", "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----"},
		"an age identity":                   {"AGE-SECRET-" + "KEY-1" + strings.Repeat(upper, 3)},
		"a GitHub token":                    {"gh" + "p_" + letters, "gh" + "s_" + letters, "github_" + "pat_" + letters},
		"a GitLab token":                    {"gl" + "pat-" + letters[:20], "gl" + "rt-" + letters[:20]},
		"an AWS access key":                 {"AK" + "IA" + upper, "AS" + "IA" + upper},
		"a Slack token":                     {"xox" + "b-123456789012-" + letters, "xa" + "pp-1-A0123-456-" + hex, "https://hooks.slack.com/services/" + "T0123/B0123/" + letters[:24]},
		"a Discord webhook":                 {"https://discord.com/api/" + "webhooks/123456789012345678/" + letters},
		"a Stripe key":                      {"sk_" + "live_" + letters[:24], "rk_" + "test_" + letters[:24], "wh" + "sec_" + letters[:24]},
		"an OpenAI or Anthropic key":        {"sk-" + letters[:48], "sk-" + "ant-api03-" + letters, "sk-" + "proj-" + letters},
		"a 1Password service account token": {"ops_" + "eyJ" + letters},
		"a Cloudflare token":                {"cf" + "ut_" + letters[:48], "cf" + "at_" + letters[:48], "cf" + "k_" + letters[:48]},
		"a Cloudflare Tunnel token":         {"eyJhI" + "joi" + letters + letters},
		"a JSON Web Token":                  {"eyJ" + letters[:20] + ".eyJ" + letters[:30] + "." + letters[:40]},
		"a Google API key":                  {"AI" + "za" + letters[:35]},
		"a Docker Hub token":                {"dckr_" + "pat_" + letters[:27]},
		"an npm token":                      {"npm" + "_" + letters[:36]},
		"a PyPI token":                      {"pypi-" + "AgEIcHlwaS5vcmc" + letters},
		"a Tailscale key":                   {"tskey-" + "auth-" + letters[:12] + "CNTRL-" + letters},
		"a DigitalOcean token":              {"dop" + "_v1_" + hex + hex},
		"a Hugging Face token":              {"hf" + "_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"},
		"a SendGrid key":                    {"SG" + "." + letters[:22] + "." + letters[:43]},
		"a Telegram bot token":              {"1234567890" + ":AA" + letters[:33]},
		"a Vault token":                     {"hv" + "s." + letters[:28]},
		"a Grafana token":                   {"gl" + "sa_" + letters[:32] + "_0a1b2c3d"},
		"an Authorization header":           {"Bearer " + letters[:20], "basic " + "YWRtaW46czNjcjN0MTIz"},
		"a URL with a password":             {"postgres://app:hunter@db/app", "redis://:hunter@cache:6379", "https://me:a%20b@example.com"},
	}
	for _, s := range shapes {
		if len(tokens[s.name]) == 0 {
			t.Errorf("no token for %s", s.name)
		}
	}
	for name, list := range tokens {
		for _, token := range list {
			for _, text := range []string{token, "--flag=" + token + " next", `{"a": "` + token + `"}`} {
				if got, _ := shapeOf(text); got != name {
					t.Errorf("%q is %q, want %q", text, got, name)
				}
			}
		}
	}
	for _, text := range []string{
		"", "ghp_short", "github.com/x/y", "AKIA", "task-runner-with-a-rather-long-name-indeed", "eyJ", "sk-learn", "disk-0123456789012345678901234567890123",
		"https://example.com/a:b@c", "https://user@example.com", "http://host:8080/x@y", "postgres://app:$PASSWORD@db", "postgres://app:${DB_PASSWORD}@db",
		"postgres://app:{{ op://v/i/f }}@db", "postgres://app:op://v/i/f@db", "postgres://user:<password>@db", "https://u:%s@h", "https://u:***@h",
		"Bearer {{HOMEPAGE_VAR_TOKEN}}", "basic authentication-required", "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----",
		"sha256:5c1b0d1a7b0ed4cb2b6d1b8bba5b6c2bfa5f56e8bbbe79b8e2f1f2e4d5b1a1b2",
	} {
		if got, ok := shapeOf(text); ok {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
}
