// Shows the API's document; nothing is asked of anybody but this service.
const place = document.getElementById("swagger-ui");

window.ui = SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
