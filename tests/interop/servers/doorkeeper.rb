# Doorkeeper as issuer and API, in a Rails application of one file; under puma. It has no metadata document.
require 'json'
require 'logger'
require 'action_controller/railtie'
require 'active_record/railtie'
require 'doorkeeper'
require 'puma'

FILE = ARGV.fetch(0)
ENV['DATABASE_URL'] = "sqlite3:#{FILE}.sqlite3"
ENV['RAILS_ENV'] = 'production'
SECRET = 'a secret of more than thirty-two bytes'.freeze
SHORT = 5
LONG = 3600

class Issuer < Rails::Application
  config.eager_load = false
  config.log_level = :error
  config.hosts.clear
  config.logger = Logger.new($stderr, level: Logger::ERROR)
  config.secret_key_base = 'only for tests'
  config.session_store :disabled
end

Doorkeeper.configure do
  orm :active_record
  grant_flows %w[client_credentials]
  client_credentials :from_basic, :from_params
  default_scopes 'orders.read'
  optional_scopes 'orders.write'
  enforce_configured_scopes
  allow_blank_redirect_uri true
  custom_access_token_expires_in { |context| context.client.uid == 'short' ? SHORT : LONG }
  base_controller 'ActionController::Base'
end

class OrdersController < ActionController::API
  before_action(only: :orders) { doorkeeper_authorize! 'orders.read' }
  before_action(only: :admin) { doorkeeper_authorize! 'orders.write' }

  def orders
    render json: []
  end
  alias admin orders
end

Rails.application.initialize!
ActiveRecord::Base.logger = nil
ActiveRecord::Base.connection.execute('PRAGMA synchronous = OFF')

ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define do
  create_table :oauth_applications do |t|
    t.string :name, null: false
    t.string :uid, null: false, index: { unique: true }
    t.string :secret, null: false
    t.text :redirect_uri
    t.string :scopes, null: false, default: ''
    t.boolean :confidential, null: false, default: true
    t.timestamps null: false
  end
  create_table :oauth_access_tokens do |t|
    t.references :resource_owner
    t.references :application, null: false
    t.string :token, null: false, index: { unique: true }
    t.string :refresh_token
    t.integer :expires_in
    t.datetime :revoked_at
    t.datetime :created_at, null: false
    t.string :scopes
  end
end

Rails.application.routes.draw do
  use_doorkeeper { skip_controllers :applications, :authorized_applications, :authorizations }
  get '/orders' => 'orders#orders'
  get '/admin' => 'orders#admin'
end

{ 'basic' => SECRET, 'post' => SECRET, 'short' => SECRET, 'odd id+%40' => 'p@ss w/rd+ %&=?' }.each do |uid, secret|
  Doorkeeper::Application.create!(
    name: uid, uid: uid, secret: secret, redirect_uri: '', scopes: 'orders.read orders.write'
  )
end

# One thread: sqlite3 waits for a lock without letting the other threads run, so that two writers stop the process.
server = Puma::Server.new(Rails.application, Puma::Events.null, min_threads: 1, max_threads: 1)
port = server.add_tcp_listener('127.0.0.1', 0).addr[1]
thread = server.run
origin = "http://127.0.0.1:#{port}"
File.write("#{FILE}.new", JSON.generate(issuer: origin, api: origin))
File.rename("#{FILE}.new", FILE)
Signal.trap('TERM') { exit! }
thread.join
